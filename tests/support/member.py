"""A member of a project that is none: it lives, as the others see it, and takes no shard."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.server import NatsServer


@asynccontextmanager
async def living(server: NatsServer, instance: str) -> AsyncIterator[Client]:
    """A member of the project that answers probes and holds a lease, and does nothing else."""
    client = await nats.connect(server.url)

    async def alive(probe: Msg) -> None:
        await probe.respond(b"")

    await client.subscribe(f"jetrunner.shop.alive.{instance}", cb=alive)
    member = {"instance": instance, "functions": ["post"], "leaving": False}
    await client.publish(
        f"$KV.jetrunner.member.shop.{instance}", json.dumps(member).encode(), headers={"Nats-TTL": "60s"}
    )
    await client.publish("jetrunner.shop.members", json.dumps({"joined": member}).encode())
    await client.flush()
    try:
        yield client
    finally:
        await client.close()
