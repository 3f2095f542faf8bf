"""A message on its way back: a dead letter or a parked message that runs again."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from runner.core import header, origin
from runner.core.failurerecord import FailureRecord
from runner.core.origin import Origin
from runner.core.park import Letter
from runner.jetstream.delivery import Delivery, Source
from runner.jetstream.ownstreams import DEADLETTERS, PARKED

FIRST_PARKED = -(1 << 61)
FIRST_LETTER = FIRST_PARKED - (1 << 60)
"""Dead letters and parked messages are numbered from here. In every process the number names the same message on its way back."""


def known_as(sequence: int, *, letter: bool) -> int:
    """The number of a message on its way back in a record of failures."""
    return -(sequence + (FIRST_LETTER if letter else FIRST_PARKED))


class Replayed(Struct, frozen=True):
    """One message that comes back."""

    place: Origin
    headers: Sequence[tuple[str, str]]
    body: bytes
    sequence: int
    """Its sequence in `DEADLETTERS` or `PARKED`."""
    since: float
    """Its age counts from this Unix time."""
    letter: Letter | None = None
    """The dead letter; None for a parked message."""

    @property
    def number(self) -> int:
        """The number of its delivery in a pull."""
        return -self.message

    @property
    def message(self) -> int:
        """Its number in a record of failures."""
        return known_as(self.sequence, letter=self.letter is not None)

    def delivery(self, subject: str, function: str, failed: FailureRecord | None, source: Source) -> Delivery:
        """Make a delivery, as if the message had just come from its stream."""
        stream = PARKED if self.letter is None else DEADLETTERS
        reply = f"$JS.ACK.{stream}.{function}.1.{self.sequence}.0.{int(self.since * 1e9)}.0"
        block = header.encode(origin.build(self.place, self.headers))
        attempt = 1 + (failed.count if failed is not None else 0)
        return Delivery(
            subject.encode("utf-8", "surrogateescape"),
            reply.encode(),
            block,
            self.body,
            self.number,
            attempt,
            source,
            careful=True,
            deliveries=2,  # the server does not count its deliveries: each start is recorded
        )
