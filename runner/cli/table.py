"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence

from runner.core import shown
from runner.core.quantity import counted

__all__ = ["counted", "table"]

RIGHT = ">"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns; a head that begins with `>` is aligned to the right. No lines without rows.

    What stands in a row is shown escaped, wherever it comes from.
    """
    if not rows:
        return []
    rows = [[shown.line(cell) for cell in row] for row in rows]
    names = [head.removeprefix(RIGHT) for head in heads]
    widths = [max(len(row[at]) for row in (names, *rows)) for at in range(len(heads))]
    return ["  ".join(_cells(heads, row, widths)).rstrip() for row in (names, *rows)]


def _cells(heads: Sequence[str], row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if head.startswith(RIGHT) else cell.ljust(width)
        for head, cell, width in zip(heads, row, widths, strict=True)
    ]
