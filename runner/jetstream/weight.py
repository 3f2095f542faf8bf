"""The size of one pull's messages, and how many of their bytes are in flight.

Rule 1: a pull whose messages fit into the part of a slot asks for the parts of its free slots.
Rule 2: a pull with larger messages asks for bytes that the pulls of the process leave each other. Each request is on record until
        the server says that it has ended.
Rule 3: if no message has come for a while, the messages count as small; the first large one restores their last size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from math import inf

from runner.core import budget
from runner.core.ahead import Ahead
from runner.jetstream.delivery import Delivery
from runner.jetstream.inflight import InFlight

WEIGHED = 256
"""Most messages that are measured to find the size of those in flight."""
LARGE_EXPIRES_SECONDS = 2.0
"""Lifetime of a request for large messages: bytes of a request that brings no messages are soon free for others."""
AHEAD_EXPIRES_SECONDS = 0.25
"""Lifetime of a request for more messages than run at once: later messages may take longer."""
LATE_SECONDS = 1.0
"""How much later than its lifetime a request may be reported as ended."""


class Weight:
    """The size of one pull's messages, and their bytes in flight."""

    def __init__(self, in_flight: InFlight, limit: int, wake: Callable[[], None], ahead: int = 0) -> None:
        """For a pull with `limit` slots, and up to `ahead` messages that wait for one."""
        self.limit = limit
        self.wake = wake
        self.size = 0
        """Bytes of a message, if that is more than a slot's part; else 0."""
        self.held = 0
        """Bytes that are here, if messages are large."""
        self.coming = 0
        """Bytes that were asked for and may still come, if messages are large."""
        self._granted = 0
        self._unbounded = False
        """Whether the next message is larger than the server's limit says: it has to be asked for without a limit of bytes."""
        self._alone = b""
        """A request without a limit of bytes."""
        self._need = 0
        """The approximate size of the next message; 0: not known."""
        self._large = 0
        """The last value of `size` above 0."""
        self._requests: dict[bytes, tuple[int, float]] = {}
        """The bytes of each open request, and when it ends at the latest."""
        self._in_flight = in_flight
        self._ahead = Ahead(ahead)

    @property
    def part(self) -> int:
        """Bytes for one message, if messages are small: those of one slot, unless more messages share them."""
        return self._ahead.part(self._in_flight.part, self.limit)

    def ahead(self, now: float, held: int) -> int:
        """How many messages may be asked for beyond the slots, with `held` here or on their way."""
        return self._ahead.look(now, held, 0 if self.size else self._in_flight.part, self.limit)

    @property
    def expires(self) -> float:
        """The lifetime of a request, in seconds."""
        return LARGE_EXPIRES_SECONDS if self.size else AHEAD_EXPIRES_SECONDS if self._ahead.messages else inf

    def asked(self, messages: int) -> None:
        """Note that so many messages were asked for."""
        self._ahead.held += messages

    @property
    def in_flight(self) -> int:
        """Bytes here and on their way, if messages are large."""
        return self.held + self.coming

    def open(self, *, holds: bool) -> None:
        """Note that messages are asked for from now on; `holds`: some may wait behind others of their key."""
        self._in_flight.open(self, holds=holds)

    def close(self) -> None:
        """Note that no more messages are asked for."""
        self._in_flight.close(self)

    def grant(self, messages: int) -> bool:
        """Whether bytes for so many messages may be asked for now."""
        least = self._need or self._in_flight.part
        self._granted = min(self._in_flight.grant(self, least), max(least, 2 * self.size * messages))
        return self._granted > 0

    def ask(self, request: bytes, messages: int, most: int, until: float) -> tuple[int, int]:
        """Enter a request with the granted bytes, at most `most`; gives its number of messages, and its bytes (0: no limit)."""
        alone = self._unbounded or most < self._need
        length = self._granted if alone else min(self._granted, most)
        self._requests[request] = length, until + LATE_SECONDS
        self.coming += length
        if alone:
            self._alone = request
            return 1, 0
        return messages, length

    def ended(self, request: bytes) -> None:
        """Note that the server says a request has ended."""
        self.coming -= self._requests.pop(request, (0, 0.0))[0]

    def lapsed(self, now: float) -> bool:
        """Whether all requests have ended, some without a word: the server says nothing if all bytes of a request are used up."""
        late = [request for request, (_, until) in self._requests.items() if now > until]
        for request in late:
            self.ended(request)
        return bool(late) and not self._requests

    def written_off(self) -> None:
        """Forget all requests, because they were written off."""
        self._requests.clear()
        self.coming = 0
        self._ahead.forget()

    def notice(self, length: int) -> None:
        """Learn from the newest message, of `length` bytes with its headers."""
        self._need, self._unbounded = 0, False
        if self._alone:  # the server does not say that a request without a limit has ended
            self.ended(self._alone)
            self._alone = b""
        self._ahead.learn(length)
        if self.size or length > self._in_flight.part:
            self._measure(budget.learned(self.size, length + budget.OVERHEAD))

    def weigh(self, unsettled: Mapping[int, Delivery], holding: int) -> None:
        """Measure the messages that are here: large ones may stay longer than small ones. `holding` of them only wait."""
        here = [len(each.body) + len(each.header or b"") for each in islice(unsettled.values(), WEIGHED)]
        mean = sum(here) // len(here) if here else 0
        if mean > max(self.size, self._in_flight.part):
            self._measure(mean + budget.OVERHEAD)
        if self.size:
            before, self.held = self.held, mean * max(0, len(unsettled) - holding)
            if self.held < before:
                self._in_flight.freed()

    def exceeded(self, left: int, largest: int, most: int) -> None:
        """Note that the next message has more bytes than the `left` ones of a request; no request may ask for more than `most`."""
        self._ahead.pause()
        self._unbounded = left >= largest
        if left >= min(max(self.size, self._in_flight.part), most):
            self._measure(max(self._in_flight.part + 1, min(largest, max(self._large, 2 * left))))
        self._need = min(largest, max(self.size, left + 1))

    def _measure(self, size: int) -> None:
        if size > self._in_flight.part:
            self.size = self._large = size
        else:
            self.rest()

    def stand_back(self) -> None:
        """Note that the pull may not ask now, so that others do not wait for it."""
        self._in_flight.stand_back(self)

    def rest(self) -> None:
        """Take messages for small, so that a slot's part is enough."""
        self.size = self.held = 0
        self._in_flight.leave(self)
