"""Parts of a split event are read as they were stored, whatever else stands beside them."""

from __future__ import annotations

import pytest

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
