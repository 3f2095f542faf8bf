"""Parked keys: what is kept of a key whose message was given up, and what becomes of the key's other messages.

Rule 1: from the message that was given up until the key is brought back, what comes later is diverted, in order.
Rule 2: whatever stands at or before the mark's place is settled: one that comes again is acknowledged, nothing more.
Rule 3: on the way back the dead letter goes first, then what was parked, each run and settled before the next.
        The mark is freed when none is left, and parked again when one of them is given up. A dead letter of before, or
        of one that expired, does not come back this way: what was after it may be done.
Rule 4: a mark is written by compare-and-set, and anew by each owner of the key's shard before it brings anything back:
        what an earlier owner still writes is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, json, structs

from runner.core import checked
from runner.core.checked import Count, Index, Unfit, UnixTime
from runner.core.origin import Origin
from runner.core.sharding import key

State = Literal["parked", "returning", "free"]
Turn = Literal["run", "ack", "divert"]


class Mark(Struct, frozen=True, omit_defaults=True):
    """What the bucket knows of a key that is parked, or was until lately."""

    state: State
    since: UnixTime
    """Unix time of that state."""
    through: Origin
    """Everything of the key up to this message of its stream is settled."""
    positions: Annotated[tuple[Index, ...], Meta(max_length=256)]
    """Indexes, from 0, of the key's tokens in a subject."""
    given_up: Origin | None = None
    """Whose dead letter comes back first; None once it has."""
    letter: Count = 0
    """The dead letter that came back and was settled last, by that sequence; it may still have to be removed."""
    epoch: Count = 0
    """Of the owner that brings it back."""

    @property
    def diverts(self) -> bool:
        """Whether the key's later messages are kept back."""
        return self.state != "free"

    @property
    def key(self) -> str | None:
        """The key; its subject may hold a hash of it only."""
        return self.key_of(self.through.subject)

    def key_of(self, subject: str) -> str | None:
        """The key of another message of the same function; None when its subject has none."""
        try:
            return key(subject, self.positions)
        except ValueError:
            return None

    def settled(self, place: Origin) -> bool:
        """Whether a message stands at or before what is settled; one of a stream made anew does not."""
        through = self.through
        return (
            place.stream == through.stream
            and place.sequence <= through.sequence
            and place.timestamp_ns <= through.timestamp_ns
        )

    def turn(self, place: Origin) -> Turn:
        """Say what becomes of a message of the key whose turn it is."""
        if self.settled(place):
            return "ack"
        return "divert" if self.diverts else "run"

    def returning(self, now: float) -> Mark:
        """The key comes back."""
        return structs.replace(self, state="returning", since=now)

    def taken(self, epoch: int) -> Mark:
        """An owner brings it back from here on."""
        return structs.replace(self, epoch=epoch)

    def passed(self, place: Origin, letter: int = 0) -> Mark:
        """One of those that come back is settled; `letter` is its sequence when it was a dead letter."""
        if letter:
            return structs.replace(self, given_up=None, letter=letter)
        return structs.replace(self, through=place) if not self.settled(place) else self

    def parked(self, place: Origin, now: float) -> Mark:
        """What came back was given up again: the rest stays."""
        return structs.replace(self, state="parked", since=now, given_up=place)

    def freed(self, now: float) -> Mark:
        """None is left: the key's messages run again."""
        return structs.replace(self, state="free", since=now)


_decode = checked.json(Mark)


def read(value: bytes) -> Mark:
    """Read what stands in the bucket; raises `Unfit`."""
    return _subjects(_decode(value), _from_text)


def encode(mark: Mark) -> bytes:
    """Write it for the bucket."""
    return json.encode(_subjects(mark, _as_text))


def _subjects(mark: Mark, change: Callable[[str], str]) -> Mark:
    places = {
        name: structs.replace(place, subject=change(place.subject))
        for name, place in (("through", mark.through), ("given_up", mark.given_up))
        if place is not None
    }
    return structs.replace(mark, **places)


def _as_text(subject: str) -> str:
    """One that is no line of text is told in hex, behind a space, which no subject holds."""
    return subject if checked.is_line(subject) else f" {subject.encode('utf-8', 'surrogateescape').hex()}"


def _from_text(text: str) -> str:
    if not text.startswith(" "):
        return text
    try:
        return bytes.fromhex(text).decode("utf-8", "surrogateescape")
    except ValueError:
        raise Unfit("a subject in hex is none") from None


def parked(before: Mark | None, place: Origin, positions: Sequence[int], now: float) -> Mark:
    """Park a key because of a message that was given up."""
    if before is None:
        return Mark("parked", now, place, tuple(positions), place)
    return structs.replace(before.passed(place).parked(place, now), positions=tuple(positions))
