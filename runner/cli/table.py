"""Tables of text, at most as wide as the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence

import click

from runner.core import shown
from runner.core.quantity import counted

__all__ = ["counted", "show", "table"]

RIGHT = ">"
FREE = "~"
GAP = "  "
LEAST = 24
"""Fewest characters that a column of free text has beside others; with less room it stands in a table of its own."""
NARROWEST = 20


def show(heads: Sequence[str], rows: Sequence[Sequence[str]], *, lead: int = 1) -> None:
    """Print a table: on a terminal at most as wide as that is, elsewhere of any width."""
    width = max(NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 0
    for line in table(heads, rows, width, lead=lead):
        click.echo(line)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int = 0, *, lead: int = 1) -> list[str]:
    """Lines of aligned columns, of at most `width` characters (0: any number). No lines without rows.

    A column whose head begins with `>` is aligned to the right. A column whose head begins with `~` has free text, which is cut to
    fit. Columns that do not fit stand in further tables below; each begins with the first `lead` columns again. Characters that act
    on a terminal are escaped in every cell.
    """
    if not rows:
        return []
    cells = [
        [head.lstrip(RIGHT + FREE) for head in heads],
        *([shown.line(cell) for cell in row] for row in rows),
    ]
    widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
    lines: list[str] = []
    for part in _parts(heads, widths, width, lead) if width else [list(range(len(heads)))]:
        lines += [""] if lines else []
        room = {at: widths[at] for at in part}
        for at in part:
            if width and heads[at].startswith(FREE):
                room[at] = min(
                    widths[at], max(1, width - sum(room.values()) - len(GAP) * (len(part) - 1) + room[at])
                )
        lines += [GAP.join(_cell(heads[at], row[at], room[at]) for at in part).rstrip() for row in cells]
    return lines


def _parts(heads: Sequence[str], widths: Sequence[int], width: int, lead: int) -> Iterator[list[int]]:
    """The columns of each table, in each as many as fit."""
    first = list(range(min(lead, len(heads))))
    part, used = list(first), _used(first, widths)
    for at in range(len(first), len(heads)):
        least = min(widths[at], LEAST) if heads[at].startswith(FREE) else widths[at]
        if used + len(GAP) + least > width and len(part) > len(first):
            yield part
            part, used = list(first), _used(first, widths)
        part.append(at)
        used += len(GAP) + least
    yield part


def _used(part: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[at] for at in part) + len(GAP) * (len(part) - 1)


def _cell(head: str, text: str, width: int) -> str:
    if len(text) > width:
        text = text[: width - 1] + "…"
    return text.rjust(width) if head.startswith(RIGHT) else text.ljust(width)
