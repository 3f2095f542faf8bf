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

What the [ways to choose an instance](howto/requests.md#ask), leaving out those that fail, and asking again are good for. The balancer and the retry budget are the real ones;
instances and time are simulated, so that each number comes out the same wherever this is run.

There are five instances. Each runs 16 requests at a time, 10 ms each on average (exponential), keeps 64 waiting, and says "overloaded" to the rest. Of the five, **one takes ten
times as long, and one fails every second request**, after 1 ms. An open load sends 2,000 requests a second, also while earlier ones are not answered; a closed one keeps 48 in flight. One asker sends
all of them, or 16 share them, each with what it has seen itself. Two seconds count, after one to warm up.

"Ejection" leaves an instance out that fails or is slow; "retries" asks another instance where one has failed, within the budget, as for an `idempotent` function. "Queue group" is NATS's own way: any,
by chance. `weighted_round_robin` was told that the slow instance weighs a tenth.

"""
END = """
Read it so:

- Without ejection an instance that fails quickly takes more than its share: every policy fails one request in six to ten. With ejection few fail, and with retries none.
- `peak_ewma` needs no ejection to avoid the slow instance, and keeps doing so where each of 16 askers sees too few answers for ejecting it: that is why it is the default.
- In a closed load, where all wait for the slowest, `round_robin` and `random` lose six parts of seven of the rate with 16 askers, and `least_requests` about half; weights help
  where you know them beforehand.

The same simulation [is tested](../tests/unit/core/test_balancing.py) over twelve seeds, for the policies' promises as well as for what was found to go wrong in heavy tails.
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
