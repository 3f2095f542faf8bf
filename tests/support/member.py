"""A member of a project that is none: it lives, as the others see it, and takes no shard."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.server import NatsServer

RENEW_SECONDS = 0.5


class Lease:
    """A lease, and how well it is renewed."""

    def __init__(self) -> None:
        self.longest_pause = 0.0
        """The most seconds from one renewal to the next."""
        self._renewed = time.monotonic()

    def renewed(self) -> None:
        """It was written just now."""
        now = time.monotonic()
        self.longest_pause = max(self.longest_pause, now - self._renewed)
        self._renewed = now


@asynccontextmanager
async def leased(
    client: Client, instance: str, functions: list[str], *, server: str = ""
) -> AsyncIterator[Lease]:
    """A lease that is renewed as long as the block lasts; nobody answers for the instance."""

    async def renew() -> None:
        while True:
            member = {"instance": instance, "functions": functions, "leaving": False, "server": server}
            await client.publish(f"$KV.jetrunner.member.shop.{instance}", json.dumps(member).encode())
            await client.publish("jetrunner.shop.members", b"")
            await client.flush()
            lease.renewed()
            stands.set()
            await asyncio.sleep(RENEW_SECONDS)

    stands, lease = asyncio.Event(), Lease()
    renewing = asyncio.create_task(renew())
    await stands.wait()
    try:
        yield lease
    finally:
        renewing.cancel()


@asynccontextmanager
async def living(server: NatsServer, instance: str) -> AsyncIterator[Client]:
    """A member of the project that answers probes and holds a lease, and does nothing else."""
    client = await nats.connect(server.url)

    async def alive(probe: Msg) -> None:
        await probe.respond(b"")

    await client.subscribe(f"jetrunner.shop.alive.{instance}", cb=alive)
    try:
        async with leased(client, instance, ["post"]):
            yield client
    finally:
        await client.close()
