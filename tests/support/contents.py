"""What stands in a stream, read through once and fast."""

from __future__ import annotations

from typing import NamedTuple

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream


class Standing(NamedTuple):
    """One message of a stream; the stamp is when it was stored, in microseconds of Unix time."""

    sequence: int
    stamp: int
    subject: str
    body: bytes

    @property
    def place(self) -> str:
        """`<generation>.<shard>` of a message in a sharded stream."""
        return ".".join(self.subject.split(".")[1:3])

    @property
    def key(self) -> str:
        """The account that the subject names: its last token but one."""
        return self.subject.split(".")[-2]


async def contents(js: RawJetStream, name: str) -> list[Standing]:
    """Every message that a stream has now, in order; read again from its beginning when its leader goes away."""
    found: list[Standing] = []

    async def read() -> bool:
        found.clear()
        total = await js.count(name)
        if total:
            found.extend(await _read(js, name, total))
        return True

    await eventually(read)
    return found


async def _read(js: RawJetStream, name: str, total: int) -> list[Standing]:
    reader = await js.client.jetstream().pull_subscribe(
        ">", stream=name, config=ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
    )
    consumer = (await reader.consumer_info()).name
    found: list[Standing] = []
    try:
        while len(found) < total:
            found += map(standing, await reader.fetch(min(1000, total - len(found)), timeout=10))
    finally:
        await reader.unsubscribe()
        await js.api(f"CONSUMER.DELETE.{name}.{consumer}")
    return found


def standing(message: Msg) -> Standing:
    """What a delivery tells in its reply subject.

    That is `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<nanoseconds>.<pending>`.
    """
    _, _, _, _, _, sequence, _, nanoseconds, *_ = message.reply.split(".")
    return Standing(int(sequence), int(nanoseconds) // 1000, message.subject, message.data)
