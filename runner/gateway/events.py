"""Server-sent events: each item of a generator is sent to the client at once, but no faster than the client reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

from runner.pipeline.call import Calling
from runner.responses import event
from runner.signature import Kind

WAITING = 16
"""Most events that wait for the client to read; then the generator waits."""


class ClientGone(Exception):  # noqa: N818  named by what happened
    """Nobody reads the events any more."""


class Events:
    """The events of one request: a generator puts them in, the connection takes them out."""

    def __init__(
        self, begun: Callable[[Events], None], extend: Callable[[], None], cut: Callable[[], None]
    ) -> None:
        """`begun` is called before the first event, `extend` after each, `cut` when the generator has to end early."""
        self.gone = self.stopped = False
        self._begun: Callable[[Events], None] | None = begun
        self._extend, self._cut = extend, cut
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self._changed = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    @property
    def has_begun(self) -> bool:
        """Whether the answer to the client has begun."""
        return self._begun is None

    async def put(self, data: bytes) -> None:
        """Send an event, once there is room for it. Raises ClientGone."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            begun(self)
        while len(self._waiting) >= WAITING and not self.stopped:
            self._changed.clear()
            await self._changed.wait()
        if self.stopped:
            raise ClientGone
        self._waiting.append(data)
        self._changed.set()
        self._extend()

    def end(self, data: bytes = b"") -> None:
        """End the events, after `data` if it is given."""
        if data:
            self._waiting.append(data)
        self._ended = True
        self._changed.set()

    async def get(self) -> bytes:
        """The events that were not sent yet, joined; empty at the end."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        found = b"".join(self._waiting)
        self._waiting.clear()
        self._changed.set()
        return found

    def leave(self) -> None:
        """End the generator, because the client has gone."""
        self.gone = True
        self.stop()

    def stop(self) -> None:
        """End the generator; the client still gets the events that were made."""
        self.stopped = self._ended = True
        self._changed.set()
        self._cut()


sending: ContextVar[Events] = ContextVar("sending")


class Streaming(Calling):
    """Calls a generator whose items are sent at once; the result is an empty list."""

    async def _called(self, kind: Kind, handler: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        events = sending.get()
        if kind == "async_generator":
            async with aclosing(handler(*arguments)) as items:
                async for item in items:
                    await events.put(event(item))
            return []

        def iterate() -> list[Any]:
            for item in handler(*arguments):
                asyncio.run_coroutine_threadsafe(events.put(event(item)), events.loop).result()
            return []

        return await self._in_thread(iterate)
