"""The lease of one instance, on a real server: what waits for it goes on when it is whole again."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from runner.cluster.member import Member
from runner.cluster.membership import Membership
from runner.cluster.pings import BUSY_SECONDS
from runner.config import Settings
from runner.jetstream import ownstreams
from runner.jetstream.connection import connect
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_what_waited_through_a_long_outage_goes_on_once_the_lease_is_renewed(
    nats_server: NatsServer,
) -> None:
    """Pings had ended after a second without work, and nothing asked for one on the next connection."""
    async with (
        Proxy.to(nats_server.port) as proxy,
        connect(Settings(nats_url=proxy.url)) as connection,
    ):
        await ownstreams.ensure(connection, ownstreams.BUCKET_STREAM)
        process: Any = SimpleNamespace(connection=connection)
        own = Membership(process, Member("shop-1-00000000", ()), "member.shop.shop-1-00000000")
        await own.renew()
        own.confirm(time.monotonic())
        await asyncio.wait_for(own.wait(), 60)
        await proxy.cut(refuse=True)
        await eventually(lambda: not own.may_start(time.monotonic()))
        waiting = asyncio.create_task(own.wait())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), BUSY_SECONDS + 0.5)
        await proxy.mend()
        await eventually(lambda: connection.is_connected)
        await own.renew()
        own.confirm(time.monotonic())
        await asyncio.wait_for(waiting, 60)
        assert own.may_start(time.monotonic())
