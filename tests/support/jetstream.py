"""JetStream without the runner: what a test publishes, and what it finds on the server afterwards.

Stands on nats-py and the raw JetStream API, so that an assertion never passes through the code it is about.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import nats
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

NO_MESSAGE = 10037
GONE = frozenset({10014, 10043, 10057, 10059})
"""Codes for a consumer, a message (two) and a stream that is not there."""


class ApiError(Exception):
    """The server refused; `code` is its `err_code`."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


class Stored(Struct, frozen=True):
    """One message of a stream. A header that occurs twice shows its first value; `raw_headers` has every byte."""

    sequence: int
    subject: str
    body: bytes
    headers: Mapping[str, str]
    raw_headers: bytes
    time: str

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class RawJetStream:
    """A connection for assertions; open it with `connect`."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @staticmethod
    @asynccontextmanager
    async def connect(url: str, **options: Any) -> AsyncIterator[RawJetStream]:
        """Connect to one URL or several separated by commas; reconnects for ever, quietly."""

        async def quiet(_: Exception) -> None:
            return None

        client = await nats.connect(
            url.split(","),
            **{"error_cb": quiet, "max_reconnect_attempts": -1, "reconnect_time_wait": 0.05, **options},
        )
        try:
            yield RawJetStream(client)
        finally:
            await client.close()

    async def api(self, subject: str, body: object = None, *, within: float = 20.0) -> dict[str, Any]:
        """Call `$JS.API.<subject>`; ApiError when the server refuses.

        Asked again every half second: an answer is lost when the server is killed, or not led yet. A deletion is asked
        for again after 10 s only: a busy server answers late, and a second one would delete what was made anew meanwhile.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + within
        deletes = ".DELETE." in subject
        asked = 0
        while True:
            left = deadline - time.monotonic()
            asked += 1
            try:
                answer = await self.client.request(
                    f"$JS.API.{subject}", payload, timeout=min(10.0 if deletes else 0.5, max(left, 0.01))
                )
                break
            except (
                nats.errors.TimeoutError,
                nats.errors.NoRespondersError,
                nats.errors.ConnectionClosedError,
            ):
                if time.monotonic() >= deadline:
                    raise
                await anyio.sleep(0.02)
        result: dict[str, Any] = json.loads(answer.data)
        if "error" in result:
            code = result["error"].get("err_code", 0)
            if deletes and asked > 1 and code in GONE:
                return {"success": True}  # it is gone: the answer to an earlier request was lost
            raise ApiError(code, result["error"].get("description", ""))
        return result

    async def create(self, name: str, subjects: list[str], **fields: Any) -> dict[str, Any]:
        """Create a stream on file storage; `fields` are JetStream's own, durations in nanoseconds.

        Returns once the stream hears what this connection publishes: a server learns of a replicated stream's leader after its creation.
        """
        config = {
            "name": name,
            "subjects": subjects,
            "storage": "file",
            "retention": "limits",
            "num_replicas": 1,
        }
        created = await self.api(f"STREAM.CREATE.{name}", {**config, **fields})
        if fields.get("num_replicas", 1) > 1 and subjects:
            await self._heard(subjects[-1].replace("*", "any").replace(">", "any"))
        return created

    async def _heard(self, subject: str) -> None:
        """Return once a stream answers on a subject: with a refusal, so it stores nothing."""
        with suppress(ApiError):
            await self.publish(subject, headers={"Nats-Expected-Stream": "none"})

    async def publish(
        self,
        subject: str,
        body: object = b"",
        headers: Mapping[str, str] | None = None,
        *,
        within: float = 20.0,
    ) -> int:
        """Publish and return the confirmed sequence. Bytes and str go as they are, everything else as JSON.

        Published again while nobody listens: nothing is stored then. In a cluster, the servers learn who leads a stream only
        after its creation has been confirmed, and after each election.
        """
        data = (
            body
            if isinstance(body, bytes)
            else body.encode()
            if isinstance(body, str)
            else json.dumps(body).encode()
        )
        deadline = time.monotonic() + within
        while True:
            left = max(deadline - time.monotonic(), 0.01)
            try:
                answer = await self.client.request(
                    subject, data, timeout=left, headers=dict(headers) if headers else None
                )
                break
            except nats.errors.NoRespondersError:
                if time.monotonic() >= deadline:
                    raise
                await anyio.sleep(0.02)
        ack = json.loads(answer.data)
        if "error" in ack:
            raise ApiError(ack["error"].get("err_code", 0), ack["error"].get("description", ""))
        return int(ack["seq"])

    async def unheard(self, subject: str) -> bool:
        """Whether the server of this connection knows that the subject has no subscriber."""
        try:
            await self.client.request(subject, b"", timeout=0.5)
        except nats.errors.NoRespondersError:
            return True
        except nats.errors.TimeoutError:
            return False
        return False

    async def thank(self, subject: str) -> None:
        """Answer what is published to a subject, as a subscriber that is not a stream; from now on."""

        async def answer(message: Msg) -> None:
            await message.respond(b"thanks")

        await self.client.subscribe(subject, cb=answer)
        await self.client.flush()

    async def stream(self, name: str, **request: Any) -> dict[str, Any]:
        """The server's info on a stream (`config`, `state`, `cluster`)."""
        return await self.api(f"STREAM.INFO.{name}", request or None)

    async def count(self, name: str) -> int:
        """How many messages a stream holds; 0 when it does not exist."""
        try:
            return int((await self.stream(name))["state"]["messages"])
        except ApiError as error:
            if error.code == 10059:
                return 0
            raise

    async def message(self, stream: str, sequence: int) -> Stored:
        """One stored message; ApiError 10037 when there is none."""
        answer = await self.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
        return _stored(answer["message"])

    async def messages(self, stream: str, subject: str | None = None) -> list[Stored]:
        """Every message a stream holds, in order, or those of one subject (wildcards allowed); [] without the stream."""
        found: list[Stored] = []
        sequence = 1
        while True:
            ask: dict[str, Any] = {"seq": sequence, "next_by_subj": subject or ">"}
            try:
                answer = await self.api(f"STREAM.MSG.GET.{stream}", ask)
            except ApiError as error:
                if error.code in {NO_MESSAGE, 10059}:
                    return found
                raise
            found.append(_stored(answer["message"]))
            sequence = found[-1].sequence + 1

    async def consumers(self, stream: str) -> list[str]:
        """The names of a stream's consumers, sorted."""
        return sorted((await self.api(f"CONSUMER.NAMES.{stream}")).get("consumers") or [])

    async def consumer(self, stream: str, durable: str) -> dict[str, Any]:
        """The server's info on a consumer (`config`, `num_pending`, `num_ack_pending`, `ack_floor`, …)."""
        return await self.api(f"CONSUMER.INFO.{stream}.{durable}")

    async def settled(self, stream: str, durable: str) -> bool:
        """Whether a consumer has nothing pending and nothing waiting for its ack.

        The server counts a stored message for its consumers a moment after it has confirmed it: so the newest one that the
        consumer reads must have been delivered, too.
        """
        info = await self.consumer(stream, durable)
        if int(info["num_pending"]) or int(info["num_ack_pending"]):
            return False
        config = info["config"]
        filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        newest = [await self._newest(stream, each) for each in filters]
        return max(newest) <= int(info["delivered"]["stream_seq"])

    async def _newest(self, stream: str, subject: str) -> int:
        """The sequence of the newest message of these subjects; 0 where there is none."""
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        except ApiError as error:
            if error.code == NO_MESSAGE:
                return 0
            raise
        return int(answer["message"]["seq"])

    async def streams(self) -> list[str]:
        """The names of every stream, sorted."""
        return sorted((await self.api("STREAM.NAMES")).get("streams") or [])


def _stored(message: Mapping[str, Any]) -> Stored:
    raw = base64.b64decode(message.get("hdrs", ""))
    headers: dict[str, str] = {}
    for line in raw.decode(errors="surrogateescape").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name, value.strip())
    return Stored(
        sequence=message["seq"],
        subject=message["subject"],
        body=base64.b64decode(message.get("data", "")),
        headers=headers,
        raw_headers=raw,
        time=message["time"],
    )
