"""Answers on their way out: whole answers, and answers whose events are sent until they end or the process does."""

from __future__ import annotations

import asyncio

from runner.gateway.answer import Answer, compress
from runner.gateway.events import Events
from runner.gateway.exchange import Exchange, Receive, Send


class Sending:
    """Sends the answers of one process to its clients."""

    def __init__(self) -> None:
        self._open: set[Events] = set()
        """The events of answers that go on."""
        self.leaving = False
        """Whether the process ends: no more events begin."""

    def stop_events(self) -> None:
        """End the answers whose events would go on: their clients connect again, to another process."""
        self.leaving = True
        for events in self._open:
            events.stop()

    async def send(self, answer: Answer, exchange: Exchange, send: Send) -> int:
        """Send an answer; gives the number of bytes of its body."""
        compress(answer, exchange.given.get(b"accept-encoding"))
        headers = list(answer.headers)
        if b"x-request-id" not in dict(headers):
            headers.append((b"x-request-id", exchange.identity))
        if answer.kind:
            headers.append((b"content-type", answer.kind))
        body, events = answer.body, answer.events
        if events is None and answer.status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if events is not None and exchange.method != "HEAD":
            return await self._stream(events, exchange.receive, send)
        if events is not None:
            events.leave()
        await send({"type": "http.response.body", "body": body})
        return len(body)

    async def _stream(self, events: Events, receive: Receive, send: Send) -> int:
        size = 0
        self._open.add(events)
        if self.leaving:
            events.stop()
        leaving = asyncio.ensure_future(_disconnected(receive))
        leaving.add_done_callback(lambda _: events.leave())
        try:
            while data := await events.get():
                size += len(data)
                await send({"type": "http.response.body", "body": data, "more_body": True})
            if not events.gone:
                await send({"type": "http.response.body", "body": b""})
        finally:
            leaving.cancel()
            self._open.discard(events)
        return size


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
