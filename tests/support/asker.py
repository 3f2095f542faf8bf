"""Asks as any client can, without a client: what is sent and what comes back is compared byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from msgspec import Struct


class Answer(Struct, frozen=True):
    """What came back."""

    subject: str
    header: bytes
    """The raw block; empty without one."""
    body: bytes

    @property
    def code(self) -> int:
        """Of an error; 0 where it is none."""
        return int(self.header_of("Nats-Service-Error-Code") or 0)

    @property
    def not_started(self) -> str:
        """Why the handler has not begun; empty where it has."""
        return self.header_of("Jetrunner-Not-Started")

    @property
    def error(self) -> str:
        """The words of an error."""
        return self.header_of("Nats-Service-Error")

    def header_of(self, name: str) -> str:
        """The value of a header; empty without it."""
        for line in self.header.decode("utf-8", "surrogateescape").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key == name:
                return value
        return ""


class Asker:
    """One connection; `ask` waits for one answer, `send` for none."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._count = 0
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()
        """Those that no `ask` waits for."""
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._pongs: list[asyncio.Future[None]] = []

    def send(self, subject: str, body: bytes = b"", header: bytes = b"", reply: str = "") -> None:
        """Publish, with a raw header block."""
        line = f"{subject} {reply}".strip().encode()
        if header:
            self._writer.write(
                b"HPUB %b %d %d\r\n%b%b\r\n" % (line, len(header), len(header) + len(body), header, body)
            )
        else:
            self._writer.write(b"PUB %b %d\r\n%b\r\n" % (line, len(body), body))

    def asked(self, subject: str, body: bytes = b"", header: bytes = b"") -> asyncio.Future[Answer]:
        """Ask; the answer is awaited later."""
        self._count += 1
        reply = f"_INBOX.asker.{self._count}"
        future = self._waiting[reply] = asyncio.get_running_loop().create_future()
        self.send(subject, body, header, reply)
        return future

    async def ask(self, subject: str, body: bytes = b"", header: bytes = b"", within: float = 20.0) -> Answer:
        """Ask, and wait for the answer."""
        async with asyncio.timeout(within):
            return await self.asked(subject, body, header)

    async def subscribe(self, subject: str) -> None:
        """Hear what comes on a subject, in `answers`."""
        self._count += 1
        self._writer.write(f"SUB {subject} s{self._count}\r\n".encode())
        await self.flush()

    async def flush(self) -> None:
        """Return once the server has taken everything."""
        future = asyncio.get_running_loop().create_future()
        self._pongs.append(future)
        self._writer.write(b"PING\r\n")
        await future

    async def read(self) -> None:
        """Read until the connection ends."""
        while line := await self._reader.readline():
            words = line.decode().split()
            match words[0]:
                case "PING":
                    self._writer.write(b"PONG\r\n")
                case "PONG":
                    self._pongs.pop(0).set_result(None)
                case "MSG" | "HMSG":
                    await self._message(words)

    async def _message(self, words: list[str]) -> None:
        headers = int(words[-2]) if words[0] == "HMSG" else 0
        data = await self._reader.readexactly(int(words[-1]))
        await self._reader.readexactly(2)
        answer = Answer(words[1], data[:headers], data[headers:])
        future = self._waiting.pop(answer.subject, None)
        if future is not None and not future.done():
            future.set_result(answer)
        else:
            self.answers.put_nowait(answer)


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Asker]:
    """Connect for the time of the block."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    options = {
        "verbose": False,
        "headers": True,
        "no_responders": True,
        "user": address.username,
        "pass": address.password,
    }
    given = {name: value for name, value in options.items() if value is not None}
    writer.write(f"CONNECT {json.dumps(given)}\r\nSUB _INBOX.asker.* i\r\n".encode())
    asker = Asker(reader, writer)
    reading = asyncio.create_task(asker.read())
    try:
        await asker.flush()
        yield asker
    finally:
        writer.close()
        await reading


def deadline(milliseconds: object) -> bytes:
    """A header block with what is left to the asker."""
    return f"NATS/1.0\r\nJetrunner-Deadline: {milliseconds}\r\n\r\n".encode()
