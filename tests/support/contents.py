"""What stands in a stream, read through once and fast."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from nats.js.api import AckPolicy, ConsumerConfig

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


async def contents(js: RawJetStream, name: str) -> AsyncIterator[Standing]:
    """Every message that a stream has now, in order."""
    total = await js.count(name)
    if not total:
        return
    reader = await js.client.jetstream().pull_subscribe(
        ">", stream=name, config=ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
    )
    consumer = (await reader.consumer_info()).name
    try:
        count = 0
        while count < total:
            for message in await reader.fetch(min(1000, total - count), timeout=10):
                count += 1
                # `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<…>.<nanoseconds>.<pending>`
                _, _, _, _, _, sequence, _, nanoseconds, *_ = message.reply.split(".")
                yield Standing(int(sequence), int(nanoseconds) // 1000, message.subject, message.data)
    finally:
        await reader.unsubscribe()
        await js.api(f"CONSUMER.DELETE.{name}.{consumer}")
