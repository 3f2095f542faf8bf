"""The queue of encoded spans: they are held in bounded memory, a thread sends them, and dropped ones are counted.

Rule 1: spans of a service stand together, so that its resource is sent once a request.
Rule 2: no caller waits for room: if the queue is full, the span is dropped.
Rule 3: a request is small enough for any collector, unless a single span is too large.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import context as contexts
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.trace import Span

from runner.core import otlp

MOST_BYTES = 32 << 20
REQUEST_BYTES = 4 << 20
"""Largest request, in bytes: by default, collectors take 4 MiB or more."""
USUAL_BYTES = 512
"""Bytes counted for a span if the limit is a number of spans."""
_SPAN = b"\x12"
_TABLE = tuple(_SPAN + otlp.varint(length) for length in range(2048))


class Lane:
    """The waiting spans of one service."""

    __slots__ = ("name", "parts", "put", "replace", "resource", "scope", "tells_exceptions")

    def __init__(
        self,
        name: str,
        resource: bytes,
        scope: bytes,
        put: Callable[[Lane, bytes], None],
        replace: Callable[[Any], Span],
    ) -> None:
        """`resource` and `scope` are encoded fields; `replace` makes a span of the SDK in place of one that has not ended."""
        self.name = name
        self.resource = resource
        self.scope = scope
        self.parts: list[bytes] = []
        """For each span two parts: its tag and length, and the span itself."""
        self.put = put
        self.replace = replace
        self.tells_exceptions = True
        """Whether exceptions are events of spans."""


class SpanQueue:
    """All waiting spans."""

    def __init__(
        self,
        send: Callable[[bytes, int], bool],
        interval: float,
        *,
        most: int | None = None,
        batch: int | None = None,
        dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        """At most `most` spans wait, and at most `batch` go into a request; None: limited by bytes only.

        `send` takes a request and the number of its spans; `dropped` gets the number of spans that were dropped.
        """
        self._send = send
        self._interval = interval
        self._bytes = max(MOST_BYTES, (most or 0) * USUAL_BYTES)
        self._least = self._bytes // most if most is not None else 0  # so that `most` spans fill the queue
        self._batch = batch
        self._full = self._bytes - (batch * (self._least or USUAL_BYTES) if batch else self._bytes // 10)
        self._tell = dropped
        self._lanes: list[Lane] = []
        self._closed = False
        self._start()
        start = weakref.WeakMethod(self._start)
        os.register_at_fork(after_in_child=lambda: (again := start()) and again())

    def _start(self) -> None:
        """Begin empty; called again in a forked child, which has its parent's spans, but not its thread."""
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._dropped = 0
        for lane in self._lanes:
            lane.parts = []
        self._room, self._wake_at = self._bytes, self._full
        self._thread = threading.Thread(target=self._run, name="jetrunner-spans", daemon=True)
        self._thread.start()

    def lane(self, name: str, resource: bytes, scope: bytes, replace: Callable[[Any], Span]) -> Lane:
        """Add the lane of another service."""
        lane = Lane(name, resource, scope, self._put, replace)
        with self._lock:
            self._lanes.append(lane)
        return lane

    def _put(self, lane: Lane, span: bytes) -> None:
        size = len(span)
        head = _TABLE[size] if size < 2048 else _SPAN + otlp.varint(size)
        with self._lock:
            room = self._room - (size if size > self._least else self._least)  # noqa: FURB136  a call costs more
            if room < 0:
                self._dropped += 1
                return
            self._room = room
            lane.parts += (head, span)
            if room > self._wake_at:
                return
            self._wake_at = -1  # waking it once is enough
        self._wake.set()

    def flush(self) -> bool:
        """Send all waiting spans; False if some did not arrive."""
        with self._sending:
            with self._lock:
                taken = [(lane, lane.parts) for lane in self._lanes if lane.parts]
                for lane, _ in taken:
                    lane.parts = []
                self._room, self._wake_at = (-1 if self._closed else self._bytes), self._full
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._tell(dropped)
            return not sum(not self._send(body, count) for body, count in self._requests(taken))

    def _requests(self, taken: list[tuple[Lane, list[bytes]]]) -> Iterator[tuple[bytes, int]]:
        """Requests, each with the number of its spans; small ones of several services are joined."""
        body: list[bytes] = []
        spans, room = 0, REQUEST_BYTES
        for lane, parts in taken:
            for chunk, length in self._chunks(parts):
                number = len(chunk) // 2
                if body and (length > room or (self._batch is not None and spans + number > self._batch)):
                    yield b"".join(body), spans
                    body, spans, room = [], 0, REQUEST_BYTES
                body += otlp.request(lane.resource, lane.scope, chunk, length)
                spans += number
                room -= length
        if body:
            yield b"".join(body), spans

    def _chunks(self, parts: list[bytes]) -> Iterator[tuple[list[bytes], int]]:
        """Cut a service's spans into chunks, by bytes and by number."""
        size, most = sum(map(len, parts)), len(parts) if self._batch is None else 2 * self._batch
        if size <= REQUEST_BYTES and len(parts) <= most:
            yield parts, size
            return
        start = length = 0
        for at in range(0, len(parts), 2):
            span = len(parts[at]) + len(parts[at + 1])
            if at > start and (length + span > REQUEST_BYTES or at - start >= most):
                yield parts[start:at], length
                start, length = at, 0
            length += span
        yield parts[start:], length

    def _run(self) -> None:
        contexts.attach(contexts.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        while not self._closed:
            self._wake.wait(self._interval)
            self._wake.clear()
            self.flush()

    def shutdown(self) -> None:
        """Send all waiting spans, and end; later spans are dropped."""
        with self._lock:
            self._closed = True
        self._wake.set()
        self._thread.join()
        self.flush()
