"""The same for every kind of stream and every way that it may become another: none of what is confirmed later is skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.book import Book, Consumers
from tests.support.combinations import combined
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer, skip_before

pytestmark = [pytest.mark.server, pytest.mark.anyio]

OLD = range(5)
LOST = range(5, 35)
FEW = range(100, 120)
MANY = range(100, 180)
NEW = {"few": FEW, "many": MANY}
ALIVE = {"alive": True, "nobody": False}


@pytest.fixture
def book(
    nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project], tmp_path: Path
) -> Book:
    return Book(nats_server, js, make_project, tmp_path)


@combined(new=NEW, alive=ALIVE, consumers=["older", "none"])
async def test_a_sharded_stream_put_back(
    book: Book, consumers: Consumers, new: range, *, alive: bool
) -> None:
    await book.open(shards=4)
    running = await book.start(instances=2)
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    await book.post(LOST)
    await book.settled()
    await book.remembered(30)
    if not alive:
        for process in running:
            process.kill()
    await book.put_back(copy, consumers=consumers)
    await book.post(new)
    if not alive:
        await book.start(instances=2)
    await book.ran(new)
    await book.settled()
    book.once(new)


@combined(new=NEW, instances={"1": 1, "2": 2})
async def test_the_whole_store_put_back_under_running_instances(
    book: Book, instances: int, new: range
) -> None:
    await book.open(shards=4)
    await book.start(instances=instances)
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    await book.post(LOST)
    await book.settled()
    await book.put_all_back(copy)
    await book.post(new)
    await book.ran(new)
    await book.settled()
    book.once(new)


@combined(
    alive=ALIVE,
    retention=["workqueue", "interest"],
    consumers=["older", "none"],
)
async def test_a_stream_that_keeps_what_is_not_done_put_back(
    book: Book, retention: str, consumers: Consumers, *, alive: bool
) -> None:
    await book.open(retention=retention)
    running = await book.start()
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    await book.post(LOST)
    await book.settled()
    await book.remembered(35)
    if not alive:
        running[0].kill()
    if retention == "interest" and consumers == "none" and not alive:
        await book.put_back(copy, consumers=consumers)
        await book.start()  # nothing that comes before has a reader
        await book.post(MANY)
    else:
        await book.put_back(copy, consumers=consumers)
        if alive and retention == "interest":
            await eventually(book.reads)
        await book.post(MANY)
        if not alive:
            await book.start()
    await book.ran(MANY)
    await book.settled()


@combined(new=NEW, consumers=["older", "none", "newer"])
async def test_handlers_that_run_while_their_stream_is_put_back(
    book: Book, consumers: Consumers, new: range, tmp_path: Path
) -> None:
    """Their ends are those of messages that the stream has lost, and say nothing of what has their numbers now."""
    if consumers == "newer" and new is MANY:
        skip_before("2.14", "durables that are ahead of their stream when the server starts")
    gate = tmp_path / "gate"
    await book.open()
    await book.start()
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    await book.post(LOST[:5])
    await book.settled()
    await book.post(LOST[5:], gate=str(gate))
    await book.started(LOST[5])
    await book.put_back(copy, consumers=consumers)
    await book.post(new)
    gate.touch()
    await book.ran(new)
    await book.settled()
    book.once(new)


@combined(deliver=["all", "new"], alive=ALIVE, new=NEW)
async def test_a_stream_deleted_and_made_again(book: Book, deliver: str, new: range, *, alive: bool) -> None:
    await book.open(deliver=deliver)
    running = await book.start()
    await book.post(OLD)
    await book.post(LOST, fails=1)
    await book.settled()
    await book.remembered(35)
    if not alive:
        running[0].kill()
    config = await book.delete("LEDGER")
    await book.js.api("STREAM.CREATE.LEDGER", config)
    await book.post(new)
    if not alive:
        await book.start()
    await book.ran(new)
    await book.settled()
    book.once(new)


@combined(consumers={"with": True, "without": False}, alive=ALIVE)
async def test_a_stream_restored_from_a_backup(book: Book, *, consumers: bool, alive: bool) -> None:
    await book.open()
    running = await book.start()
    await book.post(OLD)
    await book.settled()
    backup = await book.snapshot("LEDGER", consumers=consumers)
    await book.post(LOST)
    await book.settled()
    await book.remembered(35)
    if not alive:
        running[0].kill()
    await book.restore("LEDGER", backup)
    await book.post(MANY)
    if not alive:
        await book.start()
    await book.ran(MANY)
    await book.settled()
    book.once(MANY)


@combined(
    how={"all": {}, "keep": {"keep": 3}, "up to": {"seq": 20}, "filter": {"filter": "ledger.a1.posted"}},
    alive=ALIVE,
)
async def test_a_purged_stream_goes_on_where_it_was(
    book: Book, how: dict[str, object], *, alive: bool
) -> None:
    await book.open()
    running = await book.start()
    await book.post([*OLD, *LOST])
    await book.settled()
    await book.remembered(35)
    if not alive:
        running[0].kill()
    await book.js.api("STREAM.PURGE.LEDGER", how)
    await asyncio.to_thread(book.server.restart)
    await book.post(FEW)
    if not alive:
        running = await book.start()
    await book.ran(FEW)
    await book.settled()
    book.once([*OLD, *LOST, *FEW])
    assert "went back" not in running[0].output


async def test_a_durable_of_a_work_queue_that_was_deleted_is_made_again(book: Book) -> None:
    await book.open(retention="workqueue")
    running = await book.start()
    await book.post([*OLD, *LOST])
    await book.settled()
    await book.remembered(35)
    running[0].kill()
    await book.js.api("CONSUMER.DELETE.LEDGER.shop-post-0-0")
    await book.post(FEW)
    await book.start()
    await book.ran(FEW)


@pytest.mark.parametrize("new", [FEW, MANY], ids=["few", "many"])
async def test_a_killed_server_that_comes_back_without_its_last_messages(book: Book, new: range) -> None:
    """As after a loss of power: what was written last is gone, of the durables too."""
    await book.open()
    await book.start()
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    await book.post(LOST)
    await book.settled()
    await book.put_back(copy, consumers="older", kill=True)
    await book.post(new)
    await book.ran(new)
    await book.settled()
    book.once(new)


async def test_a_stream_put_back_twice(book: Book) -> None:
    await book.open(shards=2)
    await book.start(instances=2)
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    for turn in range(1, 4):
        await book.post(range(1000 * turn, 1000 * turn + 40))
        await book.ran(range(1000 * turn, 1000 * turn + 40))
        await book.put_back(copy)
        await book.post(range(1000 * turn + 100, 1000 * turn + 160))
        await book.ran(range(1000 * turn + 100, 1000 * turn + 160))
        await book.settled()


@combined(alive=ALIVE, consumers=["older", "none"])
async def test_a_stream_put_back_to_before_it_was_resized(
    book: Book, consumers: Consumers, *, alive: bool
) -> None:
    await book.open(shards=2)
    running = await book.start()
    await book.post(OLD)
    await book.settled()
    copy = await book.copied()
    await book.post(LOST[:20])
    done = await asyncio.to_thread(book.project.runner, "shard", "resize", "LEDGER", "4")
    assert done.code == 0, done.stderr
    await book.post(LOST[20:])
    await eventually(lambda: set(LOST) <= set(book.runs("post")))
    await book.settled()
    if not alive:
        running[0].kill()
    await book.put_back(copy, consumers=consumers)
    await book.post(FEW)
    if not alive:
        await book.start()
    await book.ran(FEW, within=60)
    await book.settled()
