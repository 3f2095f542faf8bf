"""Takes the pictures of traces in docs/reference/tracing.md from the page of a real Jaeger, and prints the same traces as text.

    JAEGER_BIN=… JAEGER_UI=… uv run python -m docs._pictures

The variables are those of `docs/_screenshot.py`. The functions are those below, under `runner dev`.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from docs._screenshot import OTLP, PAGE, photograph
from functions import _demo
from functions._dev import Dev
from runner.telemetry import jaeger, waterfall
from runner.telemetry.span import Span
from tests.support.jaeger import running

IMAGES = Path(__file__).parent / "images"

FUNCTIONS = """
import asyncio
from collections.abc import AsyncIterator

from msgspec import Struct

from runner import Context, RetryPolicy, consume, gather


class Order(Struct):
    cents: int


class Basket(Struct):
    lines: list[str]


@consume("orders.{number}", output="payments.{number}", retry=RetryPolicy.fixed(0.2, attempts=5))
async def charge(order: Order, ctx: Context) -> Order:
    await asyncio.sleep(0.05)
    if ctx.attempt < 3:
        raise OSError("the bank is closed")
    return order


@consume("payments.{number}")
async def ship(order: Order) -> None:
    await asyncio.sleep(0.08)


@consume("baskets.{number}", output="lines.{number}")
async def split(basket: Basket) -> AsyncIterator[str]:
    for line in basket.lines:
        yield line


@consume("lines.{number}", output="priced.{number}")
async def price(line: str) -> int:
    await asyncio.sleep(0.02 * len(line))
    return 250 * len(line)


@gather("priced.{number}", output="totals.{number}")
async def total(cents: list[int]) -> int:
    await asyncio.sleep(0.03)
    return sum(cents)
"""
STREAM = (
    'name = "SALES"\nsubjects = ["orders.*", "payments.*", "baskets.*", "lines.*", "priced.*", "totals.*"]\n'
)
LINES = ["tea", "sugar", "biscuit", "cup", "saucer"]


class Picture(NamedTuple):
    """One trace: what is sent, the spans by which it is known to be whole, and how large the page is."""

    file: str
    subject: str
    body: object
    spans: dict[str, int]
    size: tuple[int, int]


PICTURES = (
    Picture("retry.png", "orders.o-1", {"cents": 990}, {"charge": 3, "ship": 1}, (1400, 430)),
    Picture("gather.png", "baskets.b-1", {"lines": LINES}, {"price": 5, "total": 1, "send totals.b-1": 1}, (1400, 790)),
)  # fmt: skip


@contextmanager
def project() -> Iterator[Path]:
    """A folder with these functions."""
    with TemporaryDirectory(prefix="jetrunner-pictures-") as folder:
        root = Path(folder)
        for part in ("functions", "streams"):
            (root / part).mkdir()
        (root / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1.0"\n[tool.jetrunner]\n')
        (root / "functions" / "__init__.py").write_text("")
        (root / "functions" / "shop.py").write_text(FUNCTIONS)
        (root / "streams" / "sales.toml").write_text(STREAM)
        yield root


def whole(page: str, picture: Picture) -> list[Span]:
    """The spans of its trace, once all of them are here."""
    service, deadline = next(iter(picture.spans)), time.monotonic() + 60
    names: Counter[str] = Counter()
    while time.monotonic() < deadline:
        time.sleep(0.3)
        try:
            with urllib.request.urlopen(f"{page}/api/traces?service={service}&limit=20", timeout=5) as answer:
                traces: list[dict[str, Any]] = json.load(answer)["data"] or []
        except OSError:
            continue
        for trace in traces:
            spans = jaeger.decode(json.dumps({"data": [trace]}).encode())
            names = Counter(span.name for span in spans)
            if all(names[name] == number for name, number in picture.spans.items()):
                return spans
    sys.exit(f"{picture.file}: the trace is not whole: {dict(names)}")


def main() -> None:
    """Make the traces, the pictures and the text."""
    with ExitStack() as stack:
        folder, assets = Path(stack.enter_context(TemporaryDirectory())), os.environ.get("JAEGER_UI", "")
        stack.enter_context(running(folder, otlp=OTLP, page=PAGE, assets=assets))
        page, root = f"http://127.0.0.1:{PAGE}", stack.enter_context(project())
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_demo.FOREIGN)
        } | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{OTLP}"}
        dev = stack.enter_context(Dev(root, environment))
        dev.ready(within=60)
        for each in PICTURES:
            _demo.command(root, environment, "publish", each.subject, json.dumps(each.body))
            spans, file = whole(page, each), IMAGES / each.file
            photograph(f"{page}/trace/{spans[0].trace_id}", file, each.size)
            print("\n".join(waterfall.lines(spans)))
            print(f"{file}: {file.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
