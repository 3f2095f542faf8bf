"""Our own streams and our bucket put back, purged, deleted: what is confirmed later runs, what counts is written again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.book import Book
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

OLD = range(5)
LOST = range(5, 35)
FEW = range(100, 120)
MANY = range(100, 180)
ALIVE = pytest.mark.parametrize("alive", [True, False], ids=["alive", "nobody"])
NEW = pytest.mark.parametrize("new", [FEW, MANY], ids=["few", "many"])


@pytest.fixture
def book(
    nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project], tmp_path: Path
) -> Book:
    return Book(nats_server, js, make_project, tmp_path)


async def send_back(book: Book, numbers: range) -> None:
    for number in numbers:
        await eventually(partial(book.js.publish, "$JETRUNNER.again.shop.copy", {"n": number}))


async def copied(book: Book, numbers: range) -> None:
    await eventually(lambda: set(numbers) <= set(book.runs("copy")))


@ALIVE
@NEW
async def test_messages_sent_back_after_our_stream_was_put_back(
    book: Book, new: range, *, alive: bool
) -> None:
    await book.open()
    running = await book.start()
    await send_back(book, OLD)
    await copied(book, OLD)
    copy = await book.copied()
    await send_back(book, LOST)
    await copied(book, LOST)
    await eventually(lambda: book.js.settled("JETRUNNER", "shop-copy"))
    if not alive:
        running[0].kill()
    await book.put_back(copy, ["JETRUNNER"])
    await send_back(book, new)
    if not alive:
        await book.start()
    await copied(book, new)


@ALIVE
async def test_delayed_messages_after_our_stream_was_put_back(book: Book, *, alive: bool) -> None:
    await book.open()
    running = await book.start()
    copy = await book.copied()
    await book.post(OLD, later=1000)
    await copied(book, range(1000, 1005))
    if not alive:
        running[0].kill()
    await book.put_back(copy, ["JETRUNNER"])
    await book.post(LOST, later=2000)
    if not alive:
        await book.start()
    await copied(book, range(2005, 2035))


@pytest.mark.parametrize("stream", ["DEADLETTERS", "PARKED"])
@ALIVE
async def test_dead_letters_and_parked_messages_put_back(book: Book, stream: str, *, alive: bool) -> None:
    """A key that is parked stays so; what is given up and parked from then on comes back in order."""
    await book.open(on_exhausted="park")
    running = await book.start()
    copy = await book.copied()
    await book.post([0], fails=3)
    await eventually(lambda: book.js.count("DEADLETTERS"))
    await book.post([4, 8])
    await eventually(lambda: _holds(book, "PARKED", 2))
    if not alive:
        running[0].kill()
    await book.put_back(copy, [stream])
    await book.post([12, 16])
    await book.post([1], fails=3)
    await book.post([5, 9, 13])
    if not alive:
        await book.start()
    await eventually(lambda: _holds(book, "PARKED", 5 if stream == "PARKED" else 7))
    (book.project.root / "mended").touch()
    for key in ("a0", "a1"):
        done = book.project.runner("deadletter", "redrive", "--function", "post", "--key", key)
        assert done.code == 0, done.stderr
    expected = [12, 16, 5, 9, 13] if stream == "PARKED" else [4, 8, 12, 16, 5, 9, 13]
    await eventually(lambda: set(expected) <= set(book.runs("post")))
    for place in (0, 1):
        mine = [each for each in book.runs("post") if each % 4 == place and each in expected]
        assert mine == [each for each in expected if each % 4 == place]


async def _holds(book: Book, stream: str, count: int) -> bool:
    return await book.js.count(stream) >= count


@pytest.mark.parametrize("how", ["purged", "deleted", "older"])
async def test_what_our_bucket_has_lost_is_written_again(book: Book, how: str) -> None:
    """So that a durable that is deleted afterwards goes on where it was."""
    await book.open()
    await book.start()
    copy = await book.copied()
    await book.post([*OLD, *LOST])
    await book.settled()
    await book.remembered(35)
    await lose_bucket(book, how, copy)
    await book.remembered(35)
    await book.js.api("CONSUMER.DELETE.LEDGER.shop-copy")
    await book.post(FEW)
    await book.ran(FEW)
    await book.settled()
    book.once([*OLD, *LOST, *FEW])


@pytest.mark.parametrize("how", ["purged", "deleted", "older"])
async def test_the_bucket_and_the_stream_put_back_together(book: Book, how: str) -> None:
    await book.open()
    await book.start()
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    await book.post(LOST)
    await book.settled()
    if how == "older":
        await book.put_back(copy, ["LEDGER", "KV_jetrunner"])
    else:
        await book.put_back(copy)
        await lose_bucket(book, how, copy)
    await book.post(MANY)
    await book.ran(MANY)
    await book.settled()


async def lose_bucket(book: Book, how: str, copy: Path) -> None:
    if how == "older":
        await book.put_back(copy, ["KV_jetrunner"])
    elif how == "purged":
        await book.js.api("STREAM.PURGE.KV_jetrunner")
    else:
        await book.delete("KV_jetrunner")
