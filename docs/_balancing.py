"""Writes balancing.md and its plots from a simulation on the real balancer (tests/support/balancing.py): `just docs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.plot import FAINT, OTHERS, OURS, PAD, ROW, picture, words
from runner.core.balancer import POLICIES
from tests.support.balancing import By, Result, simulate

PAGE = Path(__file__).parent / "balancing.md"
PLOTS = PAGE.parent / "balancing"
HEAD = """# Balancing, simulated

<!-- Written by docs/_balancing.py from tests/support/balancing.py: change them, then run `just docs`. -->

This page shows what three things are good for: the [ways to choose an instance](howto/requests.md#ask), ejection and retries. The balancer and the retry budget are the real ones.
Instances and time are simulated, so every run gives the same numbers on every machine.

There are five instances. Each runs 16 requests at a time and lets 64 more wait; it answers "overloaded" to the rest. A request takes 10 ms on average (exponential). **One instance takes ten
times as long, and one fails every second request**, after 1 ms. An open load sends 2,000 requests a second, whether or not earlier ones are answered. A closed load keeps 48 requests in flight. One asker
sends all of them, or 16 askers share them; each knows only the answers to its own requests. The simulation measures 2 s, after 1 s of warm-up.

"Ejection" leaves out an instance that fails or is slow. "Retries" means that another instance is asked when one has failed, within the budget, as for an `idempotent` function. "Queue group" is the
choice of NATS itself: an instance at random. For `weighted_round_robin` the slow instance has a tenth of the weight of the others.

"""
END = """
Read it so:

- Without ejection an instance that fails quickly gets more than its share of requests: 10 to 16% of all requests fail with every policy. With ejection fewer fail: under 3% in an
  open load, up to 7% in a closed one with 16 askers. With retries as well, none fails.
- `peak_ewma` avoids the slow instance without ejection. It also does so with 16 askers, each of which sees too few answers to eject that instance. So it is the default.
- In a closed load all askers wait for the slowest instance. With 16 askers, `round_robin` and `random` answer about 600 requests a second with ejection and retries, `least_requests` about 2,400,
  `peak_ewma` about 4,200. Weights help if you know them beforehand.

The same simulation [is tested](../tests/unit/core/test_balancing.py) with twelve seeds: what each policy promises, and what went wrong with heavy-tailed service times.
"""
BY: tuple[By, ...] = (*POLICIES, "queue group")
MODES = (("neither", False, False), ("ejection", True, False), ("ejection and retries", True, True))
CASES = (
    ("open-1", "Open, one asker", False, 1),
    ("open-16", "Open, 16 askers", False, 16),
    ("closed-1", "Closed, one asker", True, 1),
    ("closed-16", "Closed, 16 askers", True, 16),
)
LABELS, WIDE, THIN = 290, 260, 13

Cell = tuple[By, str, Result]


def simulated(*, closed: bool, clients: int) -> list[Cell]:
    """Each policy in each mode; the server's own choice knows nothing of either."""
    return [
        (by, mode, simulate(by, eject=eject, retry=retry, closed=closed, clients=clients))
        for by in BY
        for mode, eject, retry in (MODES[:1] if by == "queue group" else MODES)
    ]


def page(found: dict[str, list[Cell]]) -> str:
    """The whole page."""
    parts = [HEAD]
    for name, title, _, _ in CASES:
        parts.append(f"## {title}\n\n![{title}](balancing/{name}.svg)\n\n")
        parts.append(
            "| policy | | answered a second | half within | 99 of 100 within | failed |\n|---|---|--:|--:|--:|--:|\n"
        )
        parts += [
            f"| {by} | {mode} | {it.rate:,.0f} | {it.p50:.1f} ms | {it.p99:.0f} ms | {100 * it.errors:.2f}% |\n"
            for by, mode, it in found[name]
        ]
        parts.append("\n")
    return "".join([*parts[:-1], END])


def bars(cells: list[Cell]) -> str:
    """A row for each policy and mode: how long, and how many have failed."""
    panels: tuple[tuple[str, Callable[[Result], float], str], ...] = (
        ("99 of 100 are answered within, ms", lambda it: it.p99, ".0f"),
        ("have failed, %", lambda it: 100 * it.errors, ".1f"),
    )
    parts: list[str] = []
    for row, (by, mode, _) in enumerate(cells):
        parts.append(words(LABELS - 8, PAD + 30 + ROW * row, f"{by}, {mode}", anchor="end"))
    for number, (title, value, form) in enumerate(panels):
        left = LABELS + number * (WIDE + PAD)
        most = max(value(it) for _, _, it in cells) or 1.0
        parts.append(words(left, PAD + 6, title, bold=True))
        parts += _bars(cells, left, most, value, form)
    height = PAD + 30 + ROW * len(cells) + PAD
    return picture(LABELS + 2 * (WIDE + PAD), height, parts)


def _bars(
    cells: list[Cell], left: int, most: float, value: Callable[[Result], float], form: str
) -> Iterator[str]:
    for row, (_, mode, it) in enumerate(cells):
        y = PAD + 30 + ROW * row
        width = (WIDE - 50) * value(it) / most
        fill = {"neither": FAINT, "ejection": OTHERS}.get(mode, OURS)
        yield f'<rect x="{left}" y="{y - 11}" width="{width:.1f}" height="{THIN}" fill="{fill}"/>'
        yield words(left + width + 5, y, f"{value(it):{form}}")


def made() -> tuple[str, dict[str, str]]:
    """The page, and its plots by their files' names."""
    found = {name: simulated(closed=closed, clients=clients) for name, _, closed, clients in CASES}
    return page(found), {f"{name}.svg": bars(cells) for name, cells in found.items()}


if __name__ == "__main__":
    text, pictures = made()
    PLOTS.mkdir(exist_ok=True)
    for name, svg in pictures.items():
        (PLOTS / name).write_text(svg)
    PAGE.write_text(text)
