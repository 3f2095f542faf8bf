"""A member of a project that is none: it lives, as the others see it, and takes no shard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.server import NatsServer

RENEW_SECONDS = 0.5


@asynccontextmanager
async def leased(
    client: Client, instance: str, functions: list[str], *, server: str = ""
) -> AsyncIterator[None]:
    """A lease that is renewed as long as the block lasts; nobody answers for the instance."""

    async def renew() -> None:
        while True:
            member = {"instance": instance, "functions": functions, "leaving": False, "server": server}
            await client.publish(f"$KV.jetrunner.member.shop.{instance}", json.dumps(member).encode())
            await client.publish("jetrunner.shop.members", b"")
            await client.flush()
            stands.set()
            await asyncio.sleep(RENEW_SECONDS)

    stands = asyncio.Event()
    renewing = asyncio.create_task(renew())
    await stands.wait()
    try:
        yield
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
