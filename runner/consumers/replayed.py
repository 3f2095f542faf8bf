"""One message on its way back."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from runner.core import header, origin
from runner.core.failed import Failed
from runner.core.origin import Origin
from runner.core.park import Letter
from runner.jetstream.delivery import Delivery, Source
from runner.jetstream.ownstreams import DEADLETTERS, PARKED

FIRST_PARKED = -(1 << 61)
FIRST_LETTER = FIRST_PARKED - (1 << 60)
"""Sequences of their streams are counted from here: these numbers name a message on its way back, in any process."""


def known_as(sequence: int, *, letter: bool) -> int:
    """What a record of failures names one on its way back by."""
    return -(sequence + (FIRST_LETTER if letter else FIRST_PARKED))


class Replayed(Struct, frozen=True):
    """One message that comes back."""

    place: Origin
    headers: Sequence[tuple[str, str]]
    body: bytes
    sequence: int
    """Its own, among the dead letters or in `PARKED`."""
    since: float
    """Unix time from which on its age counts."""
    letter: Letter | None = None
    """None for a parked one."""

    @property
    def number(self) -> int:
        """What its delivery is known by."""
        return -self.message

    @property
    def message(self) -> int:
        """What a record of its failures names it by."""
        return known_as(self.sequence, letter=self.letter is not None)

    def delivery(self, subject: str, function: str, failed: Failed | None, source: Source) -> Delivery:
        """As if it had just come from its stream."""
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
            deliveries=2,  # the server does not count them: its start is recorded each time
        )
