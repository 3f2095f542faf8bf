"""Parts of a split event are read as they were stored, whatever else stands beside them."""

from __future__ import annotations

import pytest

from runner.core.gather import EventRecord
from runner.jetstream import ownstreams
from runner.jetstream.gathered import Gathered, SplitEvent
from tests.server.conftest import Connects
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

EVENT = SplitEvent("shop", "total", "0" * 32)


async def test_what_somebody_else_writes_beside_the_parts_is_passed_over(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection:
        await ownstreams.ensure(connection, ownstreams.GATHER)
        store = Gathered(connection)
        await store.store(EVENT, 0, b"tea", [], 60)
        await js.publish(f"{EVENT.subject}.0.odd", b"stray")
        found = await store.fetch(EVENT, [0], 1_000)
        assert {index: each.body for index, each in found.items()} == {0: b"tea"}


async def test_a_stream_of_parts_that_refuses_second_messages_takes_a_second_record_once_it_is_made_sure_of(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    """An older version has made it; nats-server 2.12 refuses a record that replaces another there."""
    older = {**ownstreams.STREAMS[ownstreams.GATHER], "discard_new_per_subject": True, "num_replicas": 1}
    await js.api(f"STREAM.CREATE.{ownstreams.GATHER}", older)
    async with connected(nats_server.url) as connection:
        store = Gathered(connection)
        await store.store(EVENT, 0, b"tea", [], 60)
        assert await store.write(EVENT, EventRecord(bits="1"), 0, 60)
        await ownstreams.ensure(connection, ownstreams.GATHER)
        _, revision = await store.read(EVENT)
        assert await store.write(EVENT, EventRecord(bits="3"), revision, 60)
        assert (await store.read(EVENT))[0].bits == "3"
        assert set(await store.fetch(EVENT, [0], 1_000)) == {0}
    assert not (await js.stream(ownstreams.GATHER))["config"].get("discard_new_per_subject")
