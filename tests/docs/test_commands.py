"""The page of commands is what the commands say of themselves."""

from __future__ import annotations

from docs import _commands


def test_the_page_of_commands_is_up_to_date() -> None:
    assert _commands.PAGE.read_text() == _commands.page(), "run `just docs`"
