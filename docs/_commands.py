"""Writes reference/commands.md from the commands themselves: `just docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from runner.cli import main

PAGE = Path(__file__).parent / "reference" / "commands.md"
HEAD = """# Commands

Data goes to standard output, everything else to standard error. `--output json` gives one JSON document wherever there
is data to print; endless output is JSON lines. An error ends with `error:` and, where there is one, `hint:`; with `--output json` the
one that ends a command, wrong usage included, is one line of JSON, the last on standard error: `{"error": {"message": …, "hint": …, "exit_code": 2}}`. Exit codes
are those of the [settings](settings.md#exit-codes) page.

<!-- Written by docs/_commands.py from the commands' own help: change it there, then run `just docs`. -->
"""


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command that does something, in alphabetical order."""
    if not isinstance(command, click.Group):
        yield command, context
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is not None and not inner.hidden:
            yield from commands(inner, click.Context(inner, parent=context, info_name=name))


def page() -> str:
    """The whole page."""
    top = click.Context(main, info_name="runner", terminal_width=100, max_content_width=100)
    parts = [HEAD]
    for command, context in commands(main, top):
        parts.append(f"\n## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
