"""The search for the outputs of a message: it ends with its time, and says so."""

from __future__ import annotations

import time

import pytest
from msgspec import structs

from runner.core.origin import Origin
from runner.jetstream.outputs import Search, find
from tests.server.conftest import Connects
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.mark.parametrize("direct", [True, False])
async def test_what_was_not_looked_at_when_its_time_was_over_is_told(
    nats_server: NatsServer, connected: Connects, js: RawJetStream, direct: bool
) -> None:
    await js.create("PAID", ["paid.>"], allow_direct=direct)
    origin = Origin("ORDERS", 1, time.time_ns() - 10**9, "orders.1")
    search = Search("shop", "charge", origin)
    await js.publish("paid.other", b"x")
    await js.publish("paid.1", b"x", {"Nats-Msg-Id": f"{search.prefix}0"})
    streams = {"PAID": {"subjects": ["paid.>"]}}
    async with connected(nats_server.url) as connection:
        found = await find(connection, streams, search)
        assert ([each.sequence for each in found.outputs], found.whole) == ([2], True)
        later = await find(connection, streams, structs.replace(search, until=time.monotonic() + 60))
        assert later == found
        over = await find(connection, streams, structs.replace(search, until=time.monotonic()))
        assert (over.outputs, over.whole) == ((), False)
