"""The runner's own listeners over a wire that is fed with bytes, and what they write in answer."""

from __future__ import annotations

from typing import Any

from runner.cluster.claims import Claims
from runner.cluster.pings import Pings
from runner.cluster.probes import Probes
from runner.core import identity
from runner.jetstream.connection import Connection
from runner.jetstream.delivery import Delivery
from runner.jetstream.inbox import Inbox
from runner.jetstream.keymarks import KeyMarks
from runner.jetstream.publisher import Publisher
from runner.jetstream.pull import Pull
from runner.jetstream.wire import Wire
from runner.process import status
from runner.process.minutes import Minutes
from tests.support import frames
from tests.support.frames import Frame
from tests.support.wellformed import INSTANCE

INBOX = b"_INBOX.ours"
PROJECT = "shop"


class Socket:
    """Takes what is written."""

    _io_writer = None

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


class Subscription:
    """What nats-py gives for one."""

    def __init__(self, number: int) -> None:
        self._id = number


class Client:
    """As much of nats-py's client as the wire leans on, always connected."""

    is_connected = True
    is_reconnecting = False
    is_closed = False
    pending_data_size = 0
    max_payload = 1 << 20

    def __init__(self) -> None:
        self._transport = Socket()
        self._ps: Any = None
        self._server_info = {"server_id": "S1"}
        self.subjects: list[str] = []

    async def subscribe(self, subject: str, **_: Any) -> Subscription:
        self.subjects.append(subject)
        return Subscription(len(self.subjects))

    def new_inbox(self) -> str:
        return f"{INBOX.decode()}.{len(self.subjects) + 1}"


class Listening:
    """All that listens in a process, and may answer."""

    def __init__(self) -> None:
        self.client = Client()
        client: Any = self.client
        self.wire = Wire(client)
        self.inbox = Inbox(self.wire, f"{INBOX.decode()}.0")
        self.publisher = Publisher(self.wire, self.inbox, lambda: 1 << 20)
        self.connection = Connection(client, self.wire, self.inbox, self.publisher)
        self.delivered: list[Delivery] = []
        self.heard: list[Any] = []

    async def open(self) -> None:
        """Subscribe to everything."""
        await self.wire.subscribe(f"{INBOX.decode()}.0.*", self.inbox._arrived)
        minutes = Minutes(self.connection, PROJECT, INSTANCE, [], [])
        await status.StatusAnswers(
            self.connection, PROJECT, INSTANCE, status.Work([], [], {}), minutes
        ).open()
        pings = Pings(self.connection, lambda *_: None)
        probes = Probes(self.connection, PROJECT, INSTANCE, pings, lambda: (), lambda *_: None)
        await self.wire.subscribe(identity.alive_subject(PROJECT, INSTANCE), probes.asked)
        await Claims(self.connection, PROJECT).watch(lambda *told: self.heard.append(told))
        await KeyMarks(self.connection, PROJECT).watch("charge", lambda *told: self.heard.append(told))
        self.pull = Pull(self.connection, "ORDERS", "shop-charge", 64, self.delivered.append, lambda: None)
        await self.pull.open()
        self.written()

    async def feed(self, data: bytes) -> None:
        """What the server sends in one read."""
        await self.wire.reader.parse(data)

    def written(self) -> list[Frame]:
        """The frames that were written since the last look; raises `NotAFrame`."""
        self.wire.flush()
        data, self.client._transport.written = self.client._transport.written, b""
        return frames.parse(data)
