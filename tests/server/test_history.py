"""The history of a stream, as a process keeps it, on real servers whose streams become others."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import anyio
import pytest

from runner.config import Settings
from runner.core.history import Another, Back, Identity, Same
from runner.errors import PermissionDenied
from runner.jetstream import consumer
from runner.jetstream.connection import Connection, connect
from runner.jetstream.delivery import Delivery
from runner.jetstream.place import Place
from runner.jetstream.pull import Pull
from runner.runtime.histories import Histories
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


class Told:
    """A reader that writes down what it is told; `here` is the newest message that it has."""

    def __init__(self, here: Identity | None = None) -> None:
        self.here = here or Identity()
        self.heard: list[object] = []

    def newest(self) -> Identity:
        return self.here

    def arrived(self) -> Identity:
        return self.here

    def silence(self) -> None:
        self.heard.append("silence")

    def confirm(self) -> None:
        self.heard.append("confirm")

    def cut(self, first: int, known: Identity) -> None:
        self.heard.append(first)
        self.here = Identity()


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        yield live


@pytest.fixture
async def histories(connection: Connection) -> AsyncIterator[Histories]:
    async with anyio.create_task_group() as tasks:
        yield Histories(connection, tasks)
        tasks.cancel_scope.cancel()


async def stored(js: RawJetStream, count: int) -> None:
    for number in range(count):
        await js.publish(f"ledger.{number}")


async def test_a_stream_that_goes_on_is_the_same(js: RawJetStream, histories: Histories) -> None:
    await js.create("LEDGER", ["ledger.*"])
    history, reader = histories.of("LEDGER"), Told()
    history.add(reader)
    for _ in range(3):
        await stored(js, 5)
        await history.check()
    await js.api("STREAM.PURGE.LEDGER", {"keep": 2})
    await history.check()
    await js.api("STREAM.PURGE.LEDGER")
    await history.check()
    await stored(js, 1)
    assert (await history.check(thorough=False)).last == 16
    assert (reader.heard, history.era) == ([], 0)


async def test_an_empty_stream_whose_numbers_begin_later_is_confirmed_on_the_next_connection(
    js: RawJetStream, histories: Histories
) -> None:
    """The server gives its last message a number, and the year 1."""
    await js.api(
        "STREAM.CREATE.LEDGER",
        {"name": "LEDGER", "subjects": ["ledger.*"], "storage": "file", "first_seq": 100},
    )
    history, reader = histories.of("LEDGER"), Told()
    history.add(reader)
    found = await history.check()
    await stored(js, 1)
    history.lose()
    await history.check()
    assert history.confirmed
    assert (reader.heard, history.era) == (["silence", "confirm"], 0)
    assert found.newest == Identity(found.created, 99, 0)


async def test_what_came_before_the_first_look_is_the_streams(js: RawJetStream, histories: Histories) -> None:
    await js.create("LEDGER", ["ledger.*"])
    await stored(js, 5)
    history, reader = histories.of("LEDGER"), Told(Identity("", 3, 1))
    history.add(reader)
    history.doubt(reader.here)
    await history.check()
    assert reader.heard == []


@pytest.mark.parametrize("thorough", [True, False])
async def test_a_stream_made_again_is_noticed_and_told_once(
    js: RawJetStream, histories: Histories, *, thorough: bool
) -> None:
    await js.create("LEDGER", ["ledger.*"])
    await stored(js, 5)
    history, reader = histories.of("LEDGER"), Told()
    history.add(reader)
    known = (await history.check()).newest
    await js.api("STREAM.DELETE.LEDGER")
    await js.create("LEDGER", ["ledger.*"])
    await stored(js, 9)
    await asyncio.gather(*(history.check(thorough=thorough) for _ in range(5)))
    await history.check(thorough=thorough)
    assert (reader.heard, history.era) == ([1], 1)
    assert await history.compare(known) == Another()


async def test_a_stream_that_comes_back_without_its_last_messages_is_noticed_before_anything_is_confirmed(
    nats_server: NatsServer, js: RawJetStream, connection: Connection, histories: Histories, tmp_path: Path
) -> None:
    await js.create("LEDGER", ["ledger.*"])
    await stored(js, 5)
    history, reader = histories.of("LEDGER"), Told()
    history.add(reader)
    await history.check()
    await put_back(nats_server, tmp_path, js)
    await stored(js, 30)
    await eventually(lambda: reader.heard[-1:] == ["confirm"])
    reader.heard.clear()
    reader.here = (await history.check()).newest
    known = reader.here
    await put_back(nats_server, tmp_path, js)
    await stored(js, 50)
    await eventually(lambda: reader.heard[-1:] == ["confirm"])
    assert reader.heard[0] == "silence"
    assert reader.heard[-2:] == [6, "confirm"]
    assert await history.compare(known) == Back(6)
    assert await history.compare(Identity(known.created, 5)) == Same()


async def put_back(server: NatsServer, tmp_path: Path, js: RawJetStream) -> None:
    """The first time a copy is taken; later it is put in the place of what has come since."""
    copy = tmp_path / "copy"
    await asyncio.to_thread(server.stop)
    if copy.exists():
        shutil.rmtree(server.store)
        shutil.copytree(copy, server.store)
    else:
        shutil.copytree(server.store, copy)
    await asyncio.to_thread(server.start)
    await eventually(lambda: js.stream("LEDGER"))


async def test_a_stream_whose_outputs_are_lost_is_told_so_though_it_is_the_same(
    js: RawJetStream, histories: Histories, nats_server: NatsServer, tmp_path: Path
) -> None:
    """Others may have stored as many again by then: what counts is which message has the number."""
    await outputs_of(js, histories, ["a"])
    told = Told(histories.of("LEDGER").newest())
    histories.of("LEDGER").add(told)
    await asyncio.to_thread(nats_server.stop)
    await asyncio.to_thread(shutil.copytree, nats_server.store, tmp_path / "copy")
    await asyncio.to_thread(nats_server.start)
    await eventually(lambda: told.heard == ["silence", "confirm"])
    sequence = await js.publish("outputs.b", {}, {"Nats-Msg-Id": "b"})
    histories.of("LEDGER").stored.note(Place("OUTPUTS", sequence, "b"))
    await asyncio.to_thread(nats_server.kill)
    await asyncio.to_thread(shutil.rmtree, nats_server.store)
    await asyncio.to_thread(shutil.copytree, tmp_path / "copy", nats_server.store)
    await asyncio.to_thread(nats_server.start)
    await js.publish("outputs.c", {}, {"Nats-Msg-Id": "c"})
    await eventually(lambda: len(told.heard) > 2 and told.heard[-1] == "confirm")
    assert told.heard == ["silence", "confirm", "silence", 0, "confirm"]


@pytest.mark.parametrize("how", ["kept", "purged", "deleted", "made again", "in memory"])
async def test_outputs_that_stand_or_were_removed_are_not_lost(
    js: RawJetStream,
    histories: Histories,
    nats_server: NatsServer,
    how: Literal["kept", "purged", "deleted", "made again", "in memory"],
) -> None:
    await outputs_of(js, histories, ["a", "b"], "memory" if how == "in memory" else "file")
    told = Told(histories.of("LEDGER").newest())
    histories.of("LEDGER").add(told)
    if how == "purged":
        await js.api("STREAM.PURGE.OUTPUTS")
    elif how in {"deleted", "made again"}:
        await js.api("STREAM.DELETE.OUTPUTS")
    if how == "made again":
        await outputs_of(js, histories, ["c"])
    await asyncio.to_thread(nats_server.kill)
    await asyncio.to_thread(nats_server.start)
    await eventually(lambda: told.heard == ["silence", "confirm"])


async def outputs_of(js: RawJetStream, histories: Histories, ids: list[str], storage: str = "file") -> None:
    """Store outputs made of messages of LEDGER, which stands once this was called."""
    if "LEDGER" not in await js.streams():
        await js.api("STREAM.CREATE.LEDGER", {"name": "LEDGER", "subjects": ["ledger.*"]})
        await stored(js, 3)
    config = {"name": "OUTPUTS", "subjects": ["outputs.*"], "storage": storage}
    await js.api("STREAM.CREATE.OUTPUTS", config)
    await histories.of("LEDGER").check()
    for each in ids:
        sequence = await js.publish(f"outputs.{each}", {}, {"Nats-Msg-Id": each})
        histories.of("LEDGER").stored.note(Place("OUTPUTS", sequence, each))


async def test_what_came_on_a_connection_that_was_lost_again_counts_as_another_history(
    js: RawJetStream, connection: Connection, histories: Histories
) -> None:
    """Nobody knows whether it was the same."""
    created = (await js.create("LEDGER", ["ledger.*"]))["created"]
    await stored(js, 5)
    history, reader = histories.of("LEDGER"), Told()
    history.add(reader)
    await history.check()
    history.lose()
    reader.here = Identity(
        "", 3, 1
    )  # a message that the stream does not have, under the number of one that it has
    history.lose()
    await history.check()
    assert [each for each in reader.heard if each != "silence"] == [1, "confirm"]
    assert history.newest().created == created


async def test_without_the_right_to_look_nothing_waits_for_it(
    make_server: Callable[..., NatsServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server("""authorization { users: [
        { user: all, password: a },
        { user: blind, password: b, permissions: { publish: { deny: "$JS.API.STREAM.INFO.LEDGER" } } } ] }""")
    async with RawJetStream.connect(server.url_as("all", "a")) as js:
        await js.create("LEDGER", ["ledger.*"])
        async with (
            connect(Settings(nats_url=server.url_as("blind", "b"))) as connection,
            anyio.create_task_group() as tasks,
        ):
            history, reader = Histories(connection, tasks).of("LEDGER"), Told()
            history.add(reader)
            history.lose()
            for _ in range(2):
                with pytest.raises(PermissionDenied):
                    await history.check()
            assert reader.heard == ["silence", "confirm"]
            tasks.cancel_scope.cancel()
    assert sum("goes back cannot be noticed" in record.message for record in caplog.records) == 1


async def whole(cluster: Cluster, tmp_path: Path, *, put: bool) -> None:
    for server in cluster.servers:
        await asyncio.to_thread(server.stop)
    for number, server in enumerate(cluster.servers):
        copy = tmp_path / f"copy-{number}"
        if put:
            shutil.rmtree(server.store)
            shutil.copytree(copy, server.store)
        else:
            shutil.copytree(server.store, copy)
    for server in cluster.servers:
        await asyncio.to_thread(server.start)


async def test_a_leader_that_lacks_messages_is_not_believed_before_its_servers_have_answered_it(
    cluster: Cluster,
) -> None:
    """What is known was confirmed; a deposed leader does not know of it."""
    async with (
        RawJetStream.connect(cluster.url) as js,
        connect(Settings(nats_url=cluster.url)) as connection,
        anyio.create_task_group() as tasks,
    ):
        await js.create("LEDGER", ["ledger.*"], num_replicas=3)
        await stored(js, 5)
        history, reader = Histories(connection, tasks).of("LEDGER"), Told()
        last = await history.check()
        reader.here = Identity("", 9, last.last_ns + 1)  # as if more had come
        history.add(reader)
        began = anyio.current_time()
        await eventually(history.check)
        assert anyio.current_time() - began > 2.0
        assert reader.heard == [6]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_an_acknowledgement_that_was_not_written_before_the_connection_was_lost_is_of_that_message_alone(
    nats_server: NatsServer, js: RawJetStream, wire: Literal["fast", "plain"]
) -> None:
    """The stream is made again meanwhile, and another instance has the message of that number in work."""
    wanted = consumer.config("shop-post", "ledger.*", "all", "post")
    async with (
        connect(Settings(nats_url=nats_server.url, wire=wire)) as connection,
        anyio.create_task_group() as tasks,
    ):
        history = Histories(connection, tasks).of("LEDGER")
        await js.create("LEDGER", ["ledger.*"])
        await consumer.ensure(connection, "LEDGER", wanted)
        here: list[Delivery] = []
        pull = Pull(connection, "LEDGER", "shop-post", 1, here.append, lambda: None)
        history.add(pull)
        await pull.open()
        await stored(js, 1)
        await eventually(lambda: here)
        await history.check()
        await js.api("STREAM.DELETE.LEDGER")
        await js.create("LEDGER", ["ledger.*"])
        await consumer.ensure(connection, "LEDGER", wanted)
        await stored(js, 1)
        await taken(js)
        pull.settle(here[0], b"+ACK")
        connection.client._ps.reset()
        assert not history.confirmed
        await eventually(lambda: history.confirmed)
        await connection.client.flush()
        assert (await js.consumer("LEDGER", "shop-post"))["num_ack_pending"] == 1
        tasks.cancel_scope.cancel()


async def taken(js: RawJetStream) -> None:
    """Another instance gets the message."""
    inbox = js.client.new_inbox()
    messages = await js.client.subscribe(inbox)
    ask = b'{"batch":1,"expires":5000000000}'
    await js.client.publish("$JS.API.CONSUMER.MSG.NEXT.LEDGER.shop-post", ask, reply=inbox)
    assert (await messages.next_msg(60)).reply


async def test_a_stream_that_was_made_after_an_output_was_stored_has_not_lost_it(
    js: RawJetStream, histories: Histories, nats_server: NatsServer
) -> None:
    """Somebody has deleted the stream that held it, and others have stored something in the new one."""
    await outputs_of(js, histories, [])
    for name in ("a", "b"):
        await js.publish(f"outputs.{name}", {}, {"Nats-Msg-Id": name})
    histories.of("LEDGER").stored.note(Place("OUTPUTS", 2, "b"), 5.0)
    told = Told(histories.of("LEDGER").newest())
    histories.of("LEDGER").add(told)
    await js.api("STREAM.DELETE.OUTPUTS")
    await js.create("OUTPUTS", ["outputs.*"])
    await js.publish("outputs.c", {}, {"Nats-Msg-Id": "c"})
    await asyncio.to_thread(nats_server.restart)
    await eventually(lambda: told.heard == ["silence", "confirm"])
