"""What the conformance tests ask a server with: raw pulls, batches and answers, through nothing of the product."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from nats.aio.msg import Msg

from tests.support.jetstream import RawJetStream

Message = tuple[str, bytes, Mapping[str, str]]
"""Subject, body, headers."""


class Pulling:
    """One client's pulls of one durable; what comes is kept in `messages`, a status in `statuses`."""

    def __init__(self, js: RawJetStream, stream: str, durable: str) -> None:
        self.messages: list[Msg] = []
        self.statuses: list[str] = []
        self._js = js
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox = js.client.new_inbox()

    async def ask(self, batch: int, expires: float = 60.0) -> None:
        """Send one pull request."""
        if not self.messages and not self.statuses:
            await self._js.client.subscribe(self._inbox, cb=self._arrived)
        request = json.dumps({"batch": batch, "expires": int(expires * 1e9)}).encode()
        await self._js.client.publish(self._next, request, reply=self._inbox)
        await self._js.client.flush()

    async def _arrived(self, message: Msg) -> None:
        if message.headers and message.headers.get("Status"):
            self.statuses.append(message.headers["Status"])
        else:
            self.messages.append(message)

    @property
    def sequences(self) -> list[int]:
        """Stream sequences, in the order they came."""
        return [message.metadata.sequence.stream for message in self.messages]

    @property
    def deliveries(self) -> list[int]:
        """How often each was delivered."""
        return [message.metadata.num_delivered for message in self.messages]


async def durable(js: RawJetStream, stream: str, name: str, **fields: Any) -> None:
    """Create a consumer as an ordered function's shard has one."""
    config = {
        "durable_name": name,
        "ack_policy": "explicit",
        "ack_wait": 60 * 10**9,
        "max_ack_pending": -1,
        **fields,
    }
    await js.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})


async def forge(
    js: RawJetStream, stream: str, name: str, verb: bytes, *sequences: int, delivered: int | None = None
) -> None:
    """Answer deliveries of somebody else, knowing their stream sequences and what the consumer's info says."""
    if delivered is None:
        delivered = (await js.consumer(stream, name))["delivered"]["consumer_seq"]
    for sequence in sequences:
        await js.client.publish(f"$JS.ACK.{stream}.{name}.1.{sequence}.{delivered}.0.0", verb)
    await js.client.flush()


async def answers(js: RawJetStream, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Publish all at once, then wait for every answer; sorted as the messages were."""
    found: dict[int, dict[str, Any]] = {}
    done = asyncio.Event()
    inbox = js.client.new_inbox()

    async def arrived(message: Msg) -> None:
        found[int(message.subject.rpartition(".")[2])] = json.loads(message.data)
        if len(found) == len(messages):
            done.set()

    await js.client.subscribe(f"{inbox}.*", cb=arrived)
    for number, (subject, body, headers) in enumerate(messages):
        await js.client.publish(subject, body, reply=f"{inbox}.{number}", headers=dict(headers))
    async with asyncio.timeout(60):
        await done.wait()
    return [found[number] for number in range(len(messages))]


async def answer(js: RawJetStream, subject: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Publish one empty message, and give the server's answer."""
    return (await answers(js, [(subject, b"", headers or {})]))[0]


def revision(sequence: int) -> dict[str, str]:
    """The headers of a compare-and-set of the message's own subject."""
    return {"Nats-Expected-Last-Subject-Sequence": str(sequence)}


async def batch(js: RawJetStream, messages: Sequence[Message]) -> dict[str, Any]:
    """Publish an atomic batch in one go, and wait for the commit's answer."""
    name, last = secrets.token_hex(8), len(messages)
    inbox = js.client.new_inbox()
    waiting = await js.client.subscribe(inbox, max_msgs=1)
    for number, (subject, body, headers) in enumerate(messages, 1):
        given = {**headers, "Nats-Batch-Id": name, "Nats-Batch-Sequence": str(number)}
        if number == last:
            given["Nats-Batch-Commit"] = "1"
        await js.client.publish(subject, body, reply=inbox if number == last else "", headers=given)
    found: dict[str, Any] = json.loads((await waiting.next_msg(timeout=60)).data)
    return found


def code(answer: Mapping[str, Any]) -> int:
    """The error code of an answer, 0 without an error."""
    return int(answer.get("error", {}).get("err_code", 0))


def fence(subject: str, sequence: int) -> dict[str, str]:
    """The headers of a message that a fence guards."""
    return {
        "Nats-Expected-Last-Subject-Sequence": str(sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": subject,
    }
