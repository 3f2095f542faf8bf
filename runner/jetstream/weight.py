"""How large the messages of one pull are, and how many bytes of them are in flight.

Rule 1: a pull whose messages fit into the part of a slot asks for the parts of its free slots.
Rule 2: one with larger messages asks for what the pulls of the process leave each other; each request is on record until
        the server says that it has ended.
Rule 3: where nothing has come for a while it is as one with small messages; the first large one tells what they were.
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
"""Messages that are looked at to tell how large those in flight are."""
LARGE_EXPIRES_SECONDS = 2.0
"""Of a request for large messages: what nothing comes for is soon free for others."""
AHEAD_EXPIRES_SECONDS = 0.25
"""Of a request for more messages than run at once: what comes later may take longer."""
LATE_SECONDS = 1.0
"""How much later the server may tell that a request has ended."""


class Weight:
    """Of one pull."""

    def __init__(self, in_flight: InFlight, limit: int, wake: Callable[[], None], ahead: int = 0) -> None:
        """Of a pull with so many slots, and up to `ahead` messages that wait for one."""
        self.limit = limit
        self.wake = wake
        self.size = 0
        """Bytes of a message, where that is more than a slot's part; else 0."""
        self.held = 0
        """Bytes that are here, where messages are large."""
        self.coming = 0
        """Bytes that were asked for where messages are large, and may still come."""
        self.number = 0
        """Of the next request."""
        self._granted = 0
        self._unbounded = False
        """Whether the next message is larger than the server's limit says: it has to be asked for without one."""
        self._alone = b""
        """A request without a bound."""
        self._need = 0
        """The next message has about so many."""
        self._large = 0
        """What `size` was when it was last more than 0."""
        self._requests: dict[bytes, tuple[int, float]] = {}
        """Bytes of each that is open, and when it ends at the latest."""
        self._in_flight = in_flight
        self._ahead = Ahead(ahead)

    @property
    def part(self) -> int:
        """Bytes of one message, where messages are small: those of one slot, unless more messages share them."""
        return self._ahead.part(self._in_flight.part, self.limit)

    def ahead(self, now: float, held: int) -> int:
        """How many messages may be asked for beyond the slots, with so many here or on their way."""
        return self._ahead.look(now, held, 0 if self.size else self._in_flight.part, self.limit)

    @property
    def expires(self) -> float:
        """How long a request may stand, in seconds."""
        return LARGE_EXPIRES_SECONDS if self.size else AHEAD_EXPIRES_SECONDS if self._ahead.messages else inf

    def asked(self, messages: int) -> None:
        """So many were asked for."""
        self._ahead.held += messages

    @property
    def in_flight(self) -> int:
        """Bytes here and on their way, where messages are large."""
        return self.held + self.coming

    def open(self, *, holds: bool) -> None:
        """Messages are asked for from now on; whether some may wait behind others of their key."""
        self._in_flight.open(self, holds=holds)

    def close(self) -> None:
        """Nothing more is asked for."""
        self._in_flight.close(self)

    def grant(self, messages: int) -> bool:
        """Whether bytes may be asked for now, with so many messages."""
        least = self._need or self._in_flight.part
        self._granted = min(self._in_flight.grant(self, least), max(least, 2 * self.size * messages))
        return self._granted > 0

    def ask(self, request: bytes, messages: int, most: int, until: float) -> tuple[int, int]:
        """Make what was granted a request, of `most` bytes: how many messages it is for, and bytes (0: no bound)."""
        self.number += 1
        alone = self._unbounded or most < self._need
        length = self._granted if alone else min(self._granted, most)
        self._requests[request] = length, until + LATE_SECONDS
        self.coming += length
        if alone:
            self._alone = request
            return 1, 0
        return messages, length

    def ended(self, request: bytes) -> None:
        """The server says that a request has ended."""
        self.coming -= self._requests.pop(request, (0, 0.0))[0]

    def lapsed(self, now: float) -> bool:
        """Whether a request has ended without a word: so it does where its bytes are used up to the last one."""
        late = [request for request, (_, until) in self._requests.items() if now > until]
        for request in late:
            self.ended(request)
        return bool(late) and not self._requests

    def written_off(self) -> None:
        """No request is open any more, as far as we know."""
        self._requests.clear()
        self.coming = 0
        self._ahead.forget()

    def notice(self, length: int) -> None:
        """Learn from the newest message, of so many bytes with its headers."""
        self._need, self._unbounded = 0, False
        if self._alone:  # of a request without a bound the server does not say that it has ended
            self.ended(self._alone)
            self._alone = b""
        self._ahead.learn(length)
        if self.size or length > self._in_flight.part:
            self._measure(budget.learned(self.size, length + budget.OVERHEAD))

    def weigh(self, unsettled: Mapping[int, Delivery], holding: int) -> None:
        """Look at what is here: large messages may stay for longer than small ones. `holding` of them only wait."""
        here = [len(each.body) + len(each.header or b"") for each in islice(unsettled.values(), WEIGHED)]
        mean = sum(here) // len(here) if here else 0
        if mean > max(self.size, self._in_flight.part):
            self._measure(mean + budget.OVERHEAD)
        if self.size:
            before, self.held = self.held, mean * max(0, len(unsettled) - holding)
            if self.held < before:
                self._in_flight.freed()

    def exceeded(self, left: int, largest: int, most: int) -> None:
        """The next message has more bytes than were left of a request; none may ask for more than `most`."""
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
        """It may not ask now: others do not wait for it."""
        self._in_flight.stand_back(self)

    def rest(self) -> None:
        """Nothing comes, or messages are small: a slot's part is enough."""
        self.size = self.held = 0
        self._in_flight.leave(self)
