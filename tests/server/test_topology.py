"""What a process remembers of the streams, and when it asks for it again."""

from __future__ import annotations

import time

import pytest

from runner.jetstream.topology import REFRESH_SECONDS, Topology
from tests.server.conftest import Connects
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.mark.parametrize("seconds", [0.0, REFRESH_SECONDS * 1.2])
async def test_a_subject_that_another_stream_captures_by_now_is_found_however_long_after_the_last_look(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, seconds: float
) -> None:
    await js.create("PAID", ["paid.>"])
    async with connected(nats_server.url) as connection:
        topology = Topology(connection)
        await topology.load()
        loaded = time.monotonic()
        assert topology.known("paid.1") == "PAID"
        await js.api("STREAM.DELETE.PAID")
        await js.create("OTHER", ["paid.>"])
        await eventually(lambda: time.monotonic() - loaded >= seconds)
        await topology.renew(topology.version)
        assert topology.known("paid.1") == "OTHER"
        assert time.monotonic() - loaded >= REFRESH_SECONDS - 0.01  # uvloop wakes up to a millisecond early
