"""Writes reference/commands.md from the commands themselves: `just docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from runner.cli import main

PAGE = Path(__file__).parent / "reference" / "commands.md"
HEAD = """# Commands

Data goes to standard output, everything else to standard error. `--output json` gives one JSON document wherever there
is data to print; endless output is JSON lines. An error ends with `error:` and, where there is one, `hint:`. Exit codes
are those of the [settings](settings.md#exit-codes) page.

<!-- Written by docs/_commands.py from the commands' own help: change it there, then run `just docs`. -->
"""


def commands(group: click.Command, path: tuple[str, ...] = ("runner",)) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its words, in alphabetical order."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    for name, command in sorted(group.commands.items()):
        if not command.hidden:
            yield from commands(command, (*path, name))


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path, command in commands(main):
        context = click.Context(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)
        parts.append(f"\n## {' '.join(path)}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
