"""The inquest into an instance whose server knows nobody by its name."""

from __future__ import annotations

import asyncio
import time

import pytest

from runner.cluster import inquest
from runner.config import Settings
from runner.jetstream.connection import connect
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_a_timer_that_wakes_up_early_costs_no_second_inquest(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop counts in whole milliseconds. Each inquest that was in vain put the takeover off by 60 ms."""
    sleep = asyncio.sleep

    async def early(seconds: float) -> None:
        await sleep(max(0.0, seconds - 0.001))

    monkeypatch.setattr("runner.cluster.inquest.asyncio.sleep", early)
    async with connect(Settings(nats_url=nats_server.url)) as connection:
        began = time.monotonic()
        assert await inquest.is_dead(
            connection, "shop", "gone-1-00000000", near=True, witness="", bound=0.045
        )
        assert time.monotonic() - began >= 0.045
