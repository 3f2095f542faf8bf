"""A stream that has too much to store at once: it is asked again, and no handler fails for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import Settings
from runner.jetstream.connection import connect
from runner.jetstream.publisher import Outgoing
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.fixture
def busy(make_server: Callable[..., NatsServer], tmp_path: Path) -> NatsServer:
    """A server that takes few messages before it has stored others: it answers 429, `too many requests`, to more."""
    return make_server(f'jetstream {{ store_dir: "{tmp_path / "busy"}", max_buffered_msgs: 20 }}')


async def test_messages_that_come_too_fast_for_a_stream_are_all_stored(busy: NatsServer) -> None:
    async with RawJetStream.connect(busy.url) as js, connect(Settings(nats_url=busy.url)) as connection:
        await js.create("PAID", ["paid.>"])
        messages = [Outgoing("paid.1", b"", (("Nats-Msg-Id", f"{number}"),)) for number in range(2_000)]
        await asyncio.gather(*[connection.publisher.publish_surely(each, math.inf) for each in messages])
        assert await js.count("PAID") == 2_000


@pytest.mark.parametrize("order", ["", ", ordered_by='id'"], ids=["without order", "ordered"])
async def test_an_output_that_comes_too_fast_for_its_stream_is_no_failure(
    busy: NatsServer, make_project: Callable[..., Project], order: str
) -> None:
    async with RawJetStream.connect(busy.url) as js:
        shop = Shop(js, busy.url, make_project)
        await shop.open(f"""
            @consume("orders.{{id}}", output="paid.{{id}}", retry=RetryPolicy(attempts=1){order})
            async def charge(order: Order) -> Order:
                note("charge", id=order.id)
                return order
        """)
        await shop.order(*range(600))
        process = shop.run()
        await eventually(lambda: _count(js, "PAID", 600))
        assert process.running
        assert await shop.dead() == []
        assert len(shop.notes("charge")) == 600


async def _count(js: RawJetStream, stream: str, count: int) -> bool:
    return await js.count(stream) >= count
