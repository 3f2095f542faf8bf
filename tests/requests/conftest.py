"""Instances that answer as a test says, and an asker that balances between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from runner.client import App, connect
from runner.core import service
from runner.requests import peer
from tests.support.eventually import eventually
from tests.support.server import NatsServer

PROJECT = "shop"
FROZEN_SECONDS = peer.FROZEN_SECONDS


class Instance:
    """One that tells of itself as ours do, and answers what `answer` makes of a request."""

    def __init__(self, client: Client, name: str, subjects: dict[str, bool], weight: float) -> None:
        self.client = client
        self.name = name
        self._subjects = subjects
        self._weight = weight
        self.asked: list[Msg] = []
        self.answer: Callable[[Msg], Awaitable[None]] = self.echo
        self.pings = 0
        self.told: list[str] = []
        """Where it was asked who it is."""
        self.answers_pings = True
        self._subscriptions: list[object] = []

    async def open(self, *, tell: bool = True) -> None:
        """Listen, and tell of it."""
        subscribe = self.client.subscribe
        for verb in ("PING", "INFO"):
            for subject in service.control_subjects(verb, PROJECT, self.name):
                self._subscriptions.append(await subscribe(subject, cb=self._control))
        own = service.instance_subject(PROJECT, self.name, ">")
        self._subscriptions.append(await subscribe(own, cb=self._asked))
        for subject in self._subjects:
            self._subscriptions.append(await subscribe(subject, queue=service.QUEUE, cb=self._asked))
        if tell:
            await self.tell()
        for _ in range(2):  # the client's first PING overtakes what waits in its buffer
            await self.client.flush(60)

    async def tell(self, *, gone: bool = False) -> None:
        """Publish the news."""
        await self.client.publish(service.NEWS, self.info(gone=gone))

    async def close(self) -> None:
        """Listen no more, without a word."""
        for each in self._subscriptions:
            await each.unsubscribe()  # type: ignore[attr-defined]
        await self.client.flush()

    def info(self, *, gone: bool = False) -> bytes:
        """What it tells of itself."""
        endpoints = [
            service.Endpoint(
                name="quote", subject=subject, queue_group=service.QUEUE,
                metadata={"idempotent": "true" if idempotent else "false"},
            )
            for subject, idempotent in self._subjects.items()
        ]  # fmt: skip
        metadata = {service.MARK: "1", "weight": f"{self._weight:g}"}
        return msgspec.json.encode(
            service.Info(
                name=PROJECT, id=self.name, version="0.0.0", metadata=metadata, endpoints=endpoints, gone=gone
            )
        )

    async def _control(self, message: Msg) -> None:
        if ".PING" in message.subject:
            self.pings += 1
            if self.answers_pings:
                await message.respond(b"{}")
        else:
            await message.respond(self.info())
            self.told.append(message.subject)

    async def _asked(self, message: Msg) -> None:
        self.asked.append(message)
        await self.answer(message)

    async def echo(self, message: Msg) -> None:
        """Answer with the name of this instance."""
        await message.respond(msgspec.json.encode(self.name))

    async def silent(self, message: Msg) -> None:
        """Answer nothing."""

    def error(self, code: int, text: str = "no", not_started: str = "") -> Callable[[Msg], Awaitable[None]]:
        """Answer with an error."""

        async def answer(message: Msg) -> None:
            headers = {service.CODE: str(code), service.ERROR: text}
            if not_started:
                headers[service.NOT_STARTED] = not_started
            await self.client.publish(message.reply, b"", headers=headers)

        return answer


Here = Callable[..., Awaitable[Instance]]


async def known(app: App, *names: str) -> None:
    """Return once the asker knows these instances: its first request may go out with the first of them."""
    if not app._requester._cut:
        await app._requester._open()
    await eventually(lambda: {name for _, name in app._requester.directory.peers} >= set(names))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stands still for a moment is silent for every instance: here that makes none a frozen one, nor a request late."""
    monkeypatch.setattr(peer, "FROZEN_SECONDS", 60.0)
    monkeypatch.setattr("runner.client.REQUEST_SECONDS", 60.0)


@pytest.fixture
def hasty(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance is taken for frozen as soon as it is outside of tests."""
    monkeypatch.setattr(peer, "FROZEN_SECONDS", FROZEN_SECONDS)


@pytest.fixture
async def app(nats_server: NatsServer) -> AsyncIterator[App]:
    async with connect(nats_server.url) as app:
        yield app


@pytest.fixture
async def instance(nats_server: NatsServer) -> AsyncIterator[Here]:
    """`await instance("a")` is one that answers on `quote.*`."""
    clients: list[Client] = []

    async def instance(
        name: str, *, subjects: dict[str, bool] | None = None, weight: float = 1.0, tell: bool = True
    ) -> Instance:
        client = await nats.connect(nats_server.url)
        clients.append(client)
        made = Instance(client, name, {"quote.*": True} if subjects is None else subjects, weight)
        await made.open(tell=tell)
        return made

    yield instance
    await asyncio.gather(*(client.close() for client in clients))
