"""The page of hostile clients is the table that is tried."""

from __future__ import annotations

from docs import _hostile


def test_the_page_of_hostile_clients_is_up_to_date() -> None:
    assert _hostile.PAGE.read_text() == _hostile.page(), "run `just docs`"
