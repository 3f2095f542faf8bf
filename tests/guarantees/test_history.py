"""A stream that went back, was restored, purged or made again: what is confirmed afterwards runs, and none is skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.book import Book, Consumers
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

OLD = range(5)
LOST = range(5, 35)
FEW = range(100, 120)
"""Messages after the event that do not reach the number where the stream had been."""
MANY = range(100, 180)
"""Messages that pass it."""


@pytest.fixture
def book(
    nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project], tmp_path: Path
) -> Book:
    return Book(nats_server, js, make_project, tmp_path)


STATES = pytest.mark.parametrize(
    ("consumers", "new"),
    [
        pytest.param(consumers, new, id=f"{consumers}-{many}", marks=() if often else pytest.mark.thorough)
        for consumers, new, many, often in (
            ("older", FEW, "few", True),
            ("none", FEW, "few", False),
            ("newer", FEW, "few", True),
            ("older", MANY, "many", False),
            ("none", MANY, "many", True),
            ("newer", MANY, "many", False),
        )
    ],
)
"""What the consumers know when the stream is put back, and how much is stored anew after it."""


@STATES
async def test_a_stream_put_back_while_nothing_runs(book: Book, consumers: Consumers, new: range) -> None:
    await book.open()
    running = await book.start()
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    await book.post(LOST)
    await book.settled()
    await book.remembered(35)
    running[0].kill()
    await book.put_back(copy, consumers=consumers)
    await book.post(new)
    running = await book.start()
    await book.ran(new)
    await book.settled()
    book.once(new)
    assert "LEDGER went back from 35 to 5" in running[0].output


@STATES
async def test_a_stream_put_back_under_running_instances(
    book: Book, consumers: Consumers, new: range
) -> None:
    await book.open()
    running = await book.start()
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    await book.post(LOST)
    await book.settled()
    await book.remembered(35)
    await book.put_back(copy, consumers=consumers)
    await book.post(new)
    await book.ran(new)
    await book.settled()
    book.once(new)
    assert "LEDGER went back from 35 to 5" in running[0].output
