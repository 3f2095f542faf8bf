"""Plots as SVG: bars for a comparison, curves for what grows; two panels each, the rate and the CPU a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from math import log10

from benchmarks.round import Result

OURS, OTHERS = "#1a6fd4", "#98a2b0"
INK, FAINT = "#24292f", "#d0d7de"
PANEL, LABELS, ROW, PAD = 250, 300, 22, 16
HEIGHT = 200
"""Of the area that curves are drawn in."""

Value = Callable[[Result], float]
PANELS: tuple[tuple[str, Value], ...] = (
    ("messages a second", lambda one: one.rate),
    ("µs of CPU a message", lambda one: one.cpu),
)


def bars(results: Sequence[Result], counted: str = "messages") -> str:
    """A row for each contender; `counted` is what the rates count."""
    height = 2 * PAD + 14 + ROW * len(results)
    parts: list[str] = []
    for row, one in enumerate(results):
        y = PAD + 30 + ROW * row
        parts.append(words(LABELS - 8, y, one.name, anchor="end"))
    for number, (panel, value) in enumerate(PANELS):
        title = panel.replace("messages", counted).replace("message", counted.removesuffix("s"))
        left = LABELS + number * (PANEL + PAD)
        most = max(value(one) for one in results)
        parts.append(words(left, PAD + 6, title, bold=True))
        for row, one in enumerate(results):
            y = PAD + 30 + ROW * row
            width = (PANEL - 60) * value(one) / most
            fill = OURS if one.ours else OTHERS
            parts += [
                f'<rect x="{left}" y="{y - 12}" width="{width:.1f}" height="15" fill="{fill}"/>',
                words(left + width + 5, y, figure(value(one))),
            ]
    return picture(LABELS + 2 * (PANEL + PAD), height + PAD, parts)


def curves(results: Sequence[Result], axis: str) -> str:
    """A line for each client, over a logarithmic axis; every value is written at its point."""
    lines = [[one for one in results if one.ours is ours and one.at is not None] for ours in (True, False)]
    places = sorted({one.at for one in results if one.at is not None})
    wide, gap = 400, 60
    parts: list[str] = []
    for number, (title, value) in enumerate(PANELS):
        left = gap + number * (wide + gap)
        most = max(value(one) for one in results)
        bottom = PAD + 24 + HEIGHT
        x = along(places, left, wide)
        parts += [
            words(left, PAD + 6, title, bold=True),
            f'<path d="M{left} {PAD + 24}V{bottom}H{left + wide}" fill="none" stroke="{FAINT}"/>',
            *(words(x(at), bottom + 16, short(at), anchor="middle") for at in places),
            words(left + wide, bottom + 34, axis, anchor="end"),
        ]
        for line in lines:
            parts += curve(
                [(x(one.at or 0), bottom - HEIGHT * value(one) / most, value(one)) for one in line], line
            )
    return picture(gap + 2 * (wide + gap), PAD + 24 + HEIGHT + 34 + PAD, parts)


def curve(points: Sequence[tuple[float, float, float]], line: Sequence[Result]) -> Iterable[str]:
    if not points:
        return
    colour = OURS if line[0].ours else OTHERS
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y, value in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        if line[0].ours:
            yield words(x, y - 8, figure(value), anchor="middle")
    if not line[0].ours:
        x, y, _ = points[-1]
        yield words(x, y - 8, line[0].name.partition(",")[0], anchor="end")


def along(places: Sequence[int], left: float, wide: float) -> Callable[[int], float]:
    """Where a place stands on a logarithmic axis."""
    low, high = log10(places[0]), log10(places[-1])
    span = high - low or 1.0
    return lambda at: left + 20 + (wide - 40) * (log10(at) - low) / span


def figure(value: float) -> str:
    """Three digits that count, as people write them."""
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def short(at: int) -> str:
    return f"{at // 1_000_000}M" if at >= 1_000_000 else f"{at // 1000}k" if at >= 1000 else str(at)


def words(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def picture(width: float, height: float, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )
