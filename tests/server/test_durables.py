"""Durables that somebody deleted, made anew on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from runner.config import Settings
from runner.consumers.durables import Durables
from runner.core.history import NOTHING, Identity
from runner.errors import ServerError
from runner.jetstream import consumer, ownstreams
from runner.jetstream.connection import Connection, connect
from runner.jetstream.history import look
from runner.jetstream.kv import KV, PATIENCE_SECONDS
from runner.jetstream.publisher import retry_until
from runner.runtime.floors import Floor, Floors
from runner.runtime.histories import Histories
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

NAME = "shop-post-2-0"


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        await ownstreams.ensure(live, ownstreams.BUCKET_STREAM)
        yield live


@pytest.fixture
async def durables(connection: Connection) -> AsyncIterator[Durables]:
    async with anyio.create_task_group() as tasks:
        floors = Floors(KV(connection, PATIENCE_SECONDS), "shop")
        yield Durables(connection, Histories(connection, tasks), floors)


async def test_floors_are_read_where_no_replica_may_be_asked(make_server: Callable[..., NatsServer]) -> None:
    """One that is behind would tell of an older floor, or of none: what is done would run again, after later ones."""
    server = make_server(
        """authorization { users: [
            { user: app, password: a, permissions: { publish: { deny: "$JS.API.DIRECT.GET.>" } } }
        ] }"""
    )
    async with (
        connect(Settings(nats_url=server.url_as("app", "a"))) as connection,
        anyio.create_task_group() as tasks,
    ):
        await ownstreams.ensure(connection, ownstreams.BUCKET_STREAM)
        floors = Floors(KV(connection, PATIENCE_SECONDS), "shop")
        await floors.save("LEDGER", NAME, 20, Identity("2026", 30, 7))
        await floors.save("LEDGER", "shop-other", 10, Identity("2026", 40, 9))
        floor = await floors.last("LEDGER", NAME)
        assert floor is not None
        assert (floor.sequence, floor.newest) == (20, Identity("2026", 30, 7))
        assert await floors.last("LEDGER", "shop-none") is None
        assert await floors.newest("LEDGER") == Identity("2026", 40, 9)
        tasks.cancel_scope.cancel()


async def stored(js: RawJetStream, count: int = 50) -> None:
    await js.create("LEDGER", ["ledger.*"])
    for number in range(count):
        await js.publish(f"ledger.{number}")


async def made(durables: Durables, start: int = 0, deliver: str = "all") -> tuple[int, int]:
    """Where the durable ends, and how much it has before it."""
    wanted = consumer.config(NAME, "ledger.*", deliver, "post", start=start)
    info: dict[str, Any] = await durables.ensure("LEDGER", wanted)
    return info["ack_floor"]["stream_seq"], info["num_pending"]


@pytest.mark.parametrize(
    ("floor", "start", "begins"),
    [(None, 0, 1), (None, 30, 30), (20, 0, 21), (20, 30, 30), (29, 30, 30), (30, 30, 31), (40, 30, 41)],
)
async def test_a_durable_begins_at_its_floor_or_where_its_generation_does_whichever_is_later(
    connection: Connection, js: RawJetStream, durables: Durables, floor: int | None, start: int, begins: int
) -> None:
    await stored(js)
    if floor is not None:
        await durables.floors.save("LEDGER", NAME, floor, (await look(connection, "LEDGER")).newest)
    assert await made(durables, start) == (begins - 1, 51 - begins)


@pytest.mark.parametrize("deliver", ["all", "new"])
async def test_the_floor_of_a_namesake_of_the_stream_counts_for_nothing(
    js: RawJetStream, durables: Durables, deliver: str
) -> None:
    """And all that is in the stream has come since."""
    await stored(js, 1)
    await durables.floors.save("LEDGER", NAME, 1, Identity("2001-01-01T00:00:00Z", 1, 10**18))
    assert await made(durables, deliver=deliver) == (0, 1)


async def test_the_floor_of_a_message_that_the_stream_never_had_counts_as_far_as_it_was_stored_before(
    connection: Connection, js: RawJetStream, durables: Durables
) -> None:
    """The stream went back to 20, and has stored 30 others since."""
    await stored(js, 20)
    newest = (await look(connection, "LEDGER")).newest
    lost = Identity(newest.created, 35, newest.stored_ns + 1)
    for number in range(30):
        await js.publish(f"ledger.{number}")
    await durables.floors.save("LEDGER", NAME, 35, lost)
    assert await made(durables) == (20, 30)


@pytest.mark.parametrize("floor", [None, 80])
@pytest.mark.parametrize("start", [0, 70, 1_000_000])
async def test_no_durable_begins_above_what_its_stream_stores_next(
    connection: Connection, js: RawJetStream, durables: Durables, floor: int | None, start: int
) -> None:
    await stored(js)
    created = (await look(connection, "LEDGER")).created
    if floor is not None:
        known = Floor(floor, created, NOTHING)  # as an older version has written it
        await durables.floors.save("LEDGER", NAME, known.sequence, known.known)
    assert (await made(durables, start))[0] == (50 if start or floor else 0)


@pytest.mark.parametrize(("floor", "begins"), [(None, 1), (20, 21), (50, 51)])
async def test_a_durable_that_is_farther_than_its_stream_is_made_again_at_its_floor(
    connection: Connection, js: RawJetStream, durables: Durables, floor: int | None, begins: int
) -> None:
    await stored(js)
    if floor is not None:
        await durables.floors.save("LEDGER", NAME, floor, (await look(connection, "LEDGER")).newest)
    far = consumer.config(NAME, "ledger.*", "all", "post", start=1_000)
    await consumer.ensure(connection, "LEDGER", far)
    assert await made(durables) == (begins - 1, 51 - begins)
    await js.publish("ledger.1")

    async def waits() -> bool:  # a message is confirmed before its consumers have counted it
        return await made(durables) == (begins - 1, 52 - begins)

    await eventually(waits)


async def test_a_durable_of_a_work_queue_reads_all_that_is_there_whatever_its_floor_was(
    connection: Connection, js: RawJetStream, durables: Durables
) -> None:
    await js.create("LEDGER", ["ledger.*"], retention="workqueue")
    for number in range(50):
        await js.publish(f"ledger.{number}")
    await durables.floors.save("LEDGER", NAME, 40, (await look(connection, "LEDGER")).newest)
    assert await made(durables, start=30) == (0, 50)


async def test_what_somebody_changes_between_the_look_and_the_change_of_a_durable_stays(
    connection: Connection, js: RawJetStream
) -> None:
    """Its other settings are put back, over the filter and the description that it has by then."""
    await js.create("LEDGER", ["ledger.>"])
    wanted = consumer.config(NAME, "ledger.*.posted", "all", "post")
    made, _ = await consumer.ensure(connection, "LEDGER", wanted)
    looked = await consumer.update(connection, "LEDGER", made["config"], {"max_ack_pending": (-1, 3)})
    theirs = {"filter_subject": (None, "ledger.a.posted"), "description": (None, "theirs")}
    await consumer.update(connection, "LEDGER", looked["config"], theirs)
    found, _ = await consumer.ensure(connection, "LEDGER", wanted, looked, refilter=False)
    assert found["config"]["max_ack_pending"] == -1
    assert (found["config"]["filter_subject"], found["config"]["description"]) == (
        "ledger.a.posted",
        "theirs",
    )
    found, _ = await consumer.ensure(connection, "LEDGER", wanted, looked)
    assert (found["config"]["filter_subject"], found["config"]["description"]) == (
        "ledger.*.posted",
        "theirs",
    )


@pytest.mark.parametrize("deleted", ["before it is changed", "after it was found"])
async def test_a_durable_that_is_deleted_meanwhile_is_asked_for_again_and_made_where_it_was(
    connection: Connection,
    js: RawJetStream,
    durables: Durables,
    monkeypatch: pytest.MonkeyPatch,
    deleted: str,
) -> None:
    """Made at once it would begin with the first message: whoever asks again looks for its floor."""
    await stored(js)
    await durables.floors.save("LEDGER", NAME, 20, (await look(connection, "LEDGER")).newest)
    wanted = consumer.config(NAME, "ledger.*", "all", "post")
    if deleted == "before it is changed":
        await js.api(
            f"CONSUMER.CREATE.LEDGER.{NAME}",
            {
                "stream_name": "LEDGER",
                "config": {"durable_name": NAME, "name": NAME, "ack_policy": "explicit"},
            },
        )
    api = connection.api
    gone: list[str] = []

    async def deletes(suffix: str, *arguments: Any) -> dict[str, Any]:
        if suffix.startswith("CONSUMER.CREATE") and not gone:
            gone.append(suffix)
            if deleted == "after it was found":
                raise ServerError("consumer already exists", code=10148)
            await js.api(f"CONSUMER.DELETE.LEDGER.{NAME}")
        return await api(suffix, *arguments)

    monkeypatch.setattr(connection, "api", deletes)
    info = await retry_until(lambda: durables.ensure("LEDGER", wanted), 60.0)
    assert gone
    assert (info["ack_floor"]["stream_seq"], info["num_pending"]) == (20, 30)
