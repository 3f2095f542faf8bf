"""One of our own streams whose only server is away is not taken for one that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runner import cron
from runner.bindings import binding_of
from runner.cli import hour
from runner.cli.shard import list as shards
from runner.cluster.resize import Resize
from runner.config import Settings
from runner.core import identity
from runner.errors import JetrunnerError, NoStream, ServerError, Unconfirmed
from runner.jetstream import ownstreams, schedules, server
from runner.jetstream.connection import Connection, connect
from runner.jetstream.deadletters import DeadLetters, Selection
from runner.jetstream.ownstreams import AGAIN, BUCKET_STREAM, DEADLETTERS
from runner.streams import schedules as written
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHARDED = {
    "subject_transform": {
        "src": "ledger.*.posted",
        "dest": "shard.1.{{partition(2,1)}}.ledger.{{wildcard(1)}}.posted",
    },
    "metadata": {"jetrunner.shards": "2", "jetrunner.generation": "1"},
}
DEAD = identity.dead_subject("shop", "charge")
TICK = identity.tick_subject("shop", "nightly")


@cron("0 3 * * *")
async def nightly() -> None:
    """A function with a schedule."""


async def resized(connection: Connection) -> object:
    """What `runner shard resize LEDGER` sees of the functions."""
    resize = Resize(connection, "LEDGER", "shop", ())
    return await resize.look(await resize.now())


async def listed(connection: Connection) -> object:
    """What `runner shard list` shows."""
    return await shards.read(connection, "shop", None, ())


async def last_hour(connection: Connection) -> object:
    """What `runner status` tells of the last hour."""
    return await hour.read(connection, "shop", [])


async def shown(connection: Connection) -> object:
    """What `runner deadletter show 1` finds."""
    return await DeadLetters(connection).get(1)


async def browsed(connection: Connection) -> object:
    """What `runner deadletter redrive --all` finds."""
    return [each async for each in DeadLetters(connection).browse(Selection(project="shop"))]


async def fired(connection: Connection) -> object:
    """Fire a schedule."""
    return await schedules.fire(connection, "shop", "nightly")


Act = Callable[[Connection], Awaitable[object]]
ACTS = [
    pytest.param(act, stream, heard, id=act.__name__)
    for act, stream, heard in (
        (resized, BUCKET_STREAM, f"$JS.API.DIRECT.GET.{BUCKET_STREAM}"),
        (listed, BUCKET_STREAM, f"$JS.API.DIRECT.GET.{BUCKET_STREAM}"),
        (last_hour, BUCKET_STREAM, f"$JS.API.DIRECT.GET.{BUCKET_STREAM}"),
        (shown, DEADLETTERS, f"$JS.API.DIRECT.GET.{DEADLETTERS}"),
        (browsed, DEADLETTERS, f"$JS.API.DIRECT.GET.{DEADLETTERS}"),
        (fired, AGAIN, TICK),
    )
]


async def left_without(cluster: Cluster, stream: str, heard: str) -> tuple[NatsServer, NatsServer]:
    """The one server that has a stream, killed, and another, which knows that nobody listens there any more."""
    async with connect(Settings(nats_url=cluster.url), patience=60) as connection:
        await ownstreams.ensure(connection, stream)
    async with RawJetStream.connect(cluster.url) as js:
        if stream == DEADLETTERS:
            await js.publish(DEAD, {})
        if stream == BUCKET_STREAM:
            await js.create("LEDGER", ["ledger.*.posted"], num_replicas=3, **SHARDED)
    holder = await cluster.leader(stream)
    other = next(each for each in cluster.servers if each is not holder)
    holder.kill()
    async with RawJetStream.connect(other.url) as js:
        if stream == BUCKET_STREAM:
            await eventually(lambda: js.stream("LEDGER"))  # its leader may have been killed, too
        await eventually(lambda: js.unheard(heard))
    return holder, other


@pytest.mark.parametrize(("act", "stream", "heard"), ACTS)
async def test_what_finds_no_leader_in_its_time_says_that_and_not_that_nothing_is_there(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, act: Act, stream: str, heard: str
) -> None:
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 0.5, raising=False)
    _, other = await left_without(cluster, stream, heard)
    async with connect(Settings(nats_url=other.url), patience=60) as connection:
        with pytest.raises(ServerError, match=rf"stream {stream} has no leader|cluster has no leader") as why:
            await act(connection)
        assert not isinstance(why.value, NoStream)
        assert "start the servers of the stream" in why.value.hint


async def test_a_dead_letter_is_found_and_a_firing_stored_once_their_server_is_back(cluster: Cluster) -> None:
    async with connect(Settings(nats_url=cluster.url), patience=60) as connection:
        await ownstreams.ensure(connection, AGAIN)
    holder, other = await left_without(cluster, DEADLETTERS, f"$JS.API.DIRECT.GET.{DEADLETTERS}")
    async with connect(Settings(nats_url=other.url), patience=60) as connection:
        finding = asyncio.create_task(DeadLetters(connection).get(1))
        await connection.heard()
        holder.start()
        found = await finding
        assert found is not None
        assert found.letter.sequence == 1
    holder, other = await left_without(cluster, AGAIN, TICK)
    async with connect(Settings(nats_url=other.url), patience=60) as connection:
        firing = asyncio.create_task(schedules.fire(connection, "shop", "nightly"))
        await connection.heard()
        holder.start()
        assert (await firing).seq == 1


async def test_what_is_read_of_streams_that_are_not_there_is_nothing(cluster: Cluster) -> None:
    async with connect(Settings(nats_url=cluster.url), patience=60) as connection:
        assert await DeadLetters(connection).get(1) is None
        assert await listed(connection) == []
        assert await last_hour(connection) == {}
        with pytest.raises(JetrunnerError, match=r"no place for firings of nightly yet"):
            await schedules.fire(connection, "shop", "nightly")


async def test_a_schedule_whose_stream_is_away_is_not_told_as_refused(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "PATIENCE_SECONDS", 0.5)
    binding = binding_of(nightly)
    assert binding is not None
    _, other = await left_without(cluster, AGAIN, TICK)
    async with connect(Settings(nats_url=other.url), patience=60) as connection:
        with pytest.raises(ServerError, match="the server does not answer about the schedule"):
            await written.write(connection, "shop", binding)


async def test_a_firing_that_something_other_than_a_stream_answers_is_in_doubt(
    nats_server: NatsServer, js: RawJetStream
) -> None:
    """The stream has stored the firing, but gives no answer itself."""
    await js.create(AGAIN, [TICK], no_ack=True)
    await js.thank(TICK)
    async with connect(Settings(nats_url=nats_server.url), patience=60) as connection:
        with pytest.raises(Unconfirmed, match="something other than a stream answers") as doubt:
            await schedules.fire(connection, "shop", "nightly")
        assert "it may be stored" in doubt.value.hint
    assert await js.count(AGAIN) == 1
