"""Marks of keys: the record of a key that is parked or comes back, and what becomes of the key's messages.

Rule 1: from the message that was given up until the key is brought back, the key's later messages are diverted, in order.
Rule 2: a message at or before the mark's place is settled: if it comes again, it is only acknowledged. A message that was stored
        later than that place is never taken for settled, whatever its number.
Rule 3: on the way back dead letters go first, by their place in the stream they died in, then the parked messages. Each is run and
        settled before the next. The mark is freed when no message is left, and parked again when one of them is given up.
        The dead letters are the one that the key was parked behind, and those that somebody has sent back one by one.
Rule 4: a mark is written by compare-and-set. Each owner of the key's shard writes it before it brings anything back, so that later
        writes of an earlier owner are refused.
Rule 5: one write skips the message that a key was parked behind, and names the dead letter to remove. That is possible until an
        owner takes the key, which is a write, too. So only one of the two writes succeeds, and the other side reads the result.
Rule 6: a mark has the indexes of the tokens that made its key. A function whose key is made of other tokens cannot use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, json, structs

from runner.core import checked
from runner.core.checked import Count, Index, Line, Told, Unfit, UnixTime
from runner.core.failurerecord import FailureRecord
from runner.core.origin import Origin
from runner.core.sharding import key

State = Literal["parked", "returning", "free"]
KeyTurn = Literal["run", "ack", "divert"]

MOST_LETTERS = 1_000
"""Most dead letters on their way back to one key; more wait until there is room."""


class Letter(Struct, frozen=True, array_like=True):
    """A dead letter that comes back."""

    sequence: Count
    """The dead letter's own sequence, in `DEADLETTERS`."""
    stored: Count
    """When the dead letter was stored, in nanoseconds of Unix time; 0: not known."""
    place: Count
    """The sequence of its message in the stream that the message died in."""
    placed: Count
    """When that message was stored."""
    asked: UnixTime = 0.0
    """When somebody sent the dead letter back; 0: it comes back with its key."""
    headers: Annotated[tuple[tuple[Line, Line], ...], Meta(max_length=16)] = ()
    """The headers that its sender's trace adds to the message."""

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts the dead letters of one key in the order in which they come back."""
        return self.place, self.placed, self.sequence

    def is_same(self, other: Letter) -> bool:
        """Whether both name one dead letter."""
        return self.sequence == other.sequence and (
            not (self.stored and other.stored) or self.stored == other.stored
        )


class Mark(Struct, frozen=True, omit_defaults=True):
    """The record of a key in the bucket while the key is parked or comes back, and for a while after that."""

    state: State
    since: UnixTime
    """When that state began, in Unix time."""
    through: Origin | None
    """All messages of the key up to this one of its stream are settled; None: not known."""
    positions: Annotated[tuple[Index, ...], Meta(max_length=256)]
    """Indexes, from 0, of the key's tokens in a subject."""
    given_up: Origin | None = None
    """The message whose dead letter comes back with the key; None once it is among `letters`."""
    letter: Count = 0
    """The sequence of the dead letter that came back and was settled last; the dead letter may still have to be removed."""
    letter_stored: Count = 0
    """When that dead letter was stored."""
    epoch: Count = 0
    """The epoch of the owner that brings the key back."""
    key: Told = ""
    """The key; empty in the marks of earlier releases."""
    letters: Annotated[tuple[Letter, ...], Meta(max_length=2 * MOST_LETTERS)] = ()
    """The dead letters that come back, in order."""
    failed: FailureRecord | None = None
    """The failures of the message that comes back next."""

    @property
    def diverts(self) -> bool:
        """Whether the key's later messages are kept back."""
        return self.state != "free"

    @property
    def worth(self) -> bool:
        """Whether the mark is worth keeping: a free one is if it says what is settled."""
        return self.diverts or self.through is not None

    def key_of(self, subject: str) -> str | None:
        """The key of another message of the same function; None when its subject has none."""
        try:
            return key(subject, self.positions)
        except ValueError:
            return None

    def settled(self, place: Origin) -> bool:
        """Whether a message is settled: it is at or before `through`, in sequence and in time of storage."""
        through = self.through
        return (
            through is not None
            and place.stream == through.stream
            and place.sequence <= through.sequence
            and place.timestamp_ns <= through.timestamp_ns
        )

    def turn(self, place: Origin) -> KeyTurn:
        """Say what becomes of a message of the key whose turn it is."""
        if self.settled(place):
            return "ack"
        return "divert" if self.diverts else "run"

    def has_settled(self, letter: Letter) -> bool:
        """Whether this dead letter is the one that was settled last."""
        return bool(self.letter) and letter.is_same(Letter(self.letter, self.letter_stored, 0, 0))

    def returning(self, now: float) -> Mark:
        """The key comes back."""
        return structs.replace(self, state="returning", since=now)

    def waits_behind(self, place: Origin) -> bool:
        """Whether the key waits behind this message, and no owner has begun to bring it back."""
        return self.diverts and self.given_up is not None and self.given_up.same(place)

    def skipped(self, letter: Letter | None, now: float) -> Mark:
        """The key comes back without the message that it was parked behind; that message's dead letter has to be removed."""
        after = self.passed_letter(letter) if letter is not None else self
        return structs.replace(after, state="returning", since=now, given_up=None)

    def over(self, found: Mark, *, later: bool, now: float) -> Mark:
        """The mark that counts after the bucket went back: `self` is known, `found` is in the bucket; `later`: it was written since."""
        if not later:
            return self.asked(found.letters, now)
        if (self.state, found.state) != ("parked", "returning"):
            return found
        mark = self.asked(found.letters, now).returning(found.since)
        # `found` skips a message, whose dead letter may still be there: without the skip, that message would run.
        return mark.passed_letter(Letter(found.letter, found.letter_stored, 0, 0)) if found.letter else mark

    def asked(self, letters: Iterable[Letter], now: float) -> Mark:
        """Dead letters were sent back: they come before all waiting messages. A parked key stays parked."""
        after = self._with(letters)
        return after if after.diverts or not after.letters else after.returning(now)

    def taken(self, epoch: int, found: Letter | None = None) -> Mark:
        """An owner brings the key back from here on; `found` is the dead letter that the key was parked behind."""
        after = self._with([found] if found is not None else ())
        return structs.replace(after, epoch=epoch, given_up=None)

    def failing(self, failed: FailureRecord) -> Mark:
        """The message that comes back next has failed."""
        return structs.replace(self, failed=failed)

    def passed(self, place: Origin | None) -> Mark:
        """A parked message is settled; `place` is None when its origin is not known."""
        through = self.through if place is None or self.settled(place) else place
        return structs.replace(self, through=through, failed=None)

    def passed_letter(self, letter: Letter) -> Mark:
        """A dead letter is settled, and has to be removed."""
        after = self.without(letter)
        return structs.replace(after, letter=letter.sequence, letter_stored=letter.stored)

    def without(self, letter: Letter) -> Mark:
        """A dead letter does not come back."""
        letters = tuple(each for each in self.letters if not each.is_same(letter))
        return structs.replace(self, letters=letters, failed=None)

    def parked(self, place: Origin, now: float) -> Mark:
        """The message that came back was given up again; the others stay parked."""
        return structs.replace(self, state="parked", since=now, given_up=place, failed=None)

    def freed(self, now: float) -> Mark:
        """No message is left to come back: the key's messages run again."""
        return structs.replace(self, state="free", since=now, letters=(), failed=None)

    def _with(self, letters: Iterable[Letter]) -> Mark:
        found = {each.sequence: each for each in self.letters}
        for letter in letters:
            known = found.get(letter.sequence)
            if not self.has_settled(letter) and (known is None or not letter.is_same(known)):
                found[letter.sequence] = letter  # another dead letter has that sequence now
        return structs.replace(self, letters=tuple(sorted(found.values(), key=lambda each: each.order)))


def parked(before: Mark | None, place: Origin, positions: Sequence[int], now: float, name: str = "") -> Mark:
    """Park a key because of a message that was given up."""
    if before is None:
        return Mark("parked", now, place, tuple(positions), place, key=name)
    after = before.passed(place).parked(place, now)
    return structs.replace(after, positions=tuple(positions), key=name or before.key)


def unmarked(name: str, positions: Sequence[int]) -> Mark:
    """The mark of a key about which nothing is known, and whose messages run."""
    return Mark("free", 0.0, None, tuple(positions), key=name)


def found_parked(first: Origin, name: str, positions: Sequence[int], now: float) -> Mark:
    """Make the mark of a key with parked messages whose mark was lost with the bucket; `first` is the oldest parked message.

    The messages before `first` were settled when it was parked.
    """
    before = None
    if first.sequence > 1 and first.timestamp_ns > 1:
        before = Origin(first.stream, first.sequence - 1, first.timestamp_ns - 1, first.subject)
    return Mark("parked", now, before, tuple(positions), key=name)


def tokens(positions: Sequence[int]) -> str:
    """Name tokens of a subject as people count them, from 1."""
    named = " and ".join(str(position + 1) for position in positions)
    return f"{'token' if len(positions) == 1 else 'tokens'} {named}" if named else "other tokens"


_decode = checked.json(Mark)


def read(value: bytes) -> Mark:
    """Read a mark from the bucket; raises `Unfit`."""
    mark = _texts(_decode(value), _from_text)
    if not mark.key:  # as earlier releases wrote it
        mark = structs.replace(mark, key=mark.key_of(mark.through.subject) or "" if mark.through else "")
    if not mark.key:
        raise Unfit("it does not tell its key")
    return mark


def encode(mark: Mark) -> bytes:
    """Write a mark for the bucket; raises `Unfit` when `read` would not give the same mark back."""
    try:
        value = json.encode(_texts(mark, _as_text))
    except UnicodeError:
        raise Unfit("it holds text that is no UTF-8") from None
    if read(value) != mark:
        raise Unfit("it would be read as another")
    return value


def _texts(mark: Mark, change: Callable[[str], str]) -> Mark:
    places = {
        name: structs.replace(place, subject=change(place.subject))
        for name, place in (("through", mark.through), ("given_up", mark.given_up))
        if place is not None
    }
    return structs.replace(mark, key=change(mark.key), **places)


def _as_text(text: str) -> str:
    """Write a text that is no line in hexadecimal, after a space, which no subject holds."""
    return (
        text
        if checked.is_line(text) and not text.startswith(" ")
        else f" {text.encode('utf-8', 'surrogateescape').hex()}"
    )


def _from_text(text: str) -> str:
    if not text.startswith(" "):
        return text
    try:
        return bytes.fromhex(text).decode("utf-8", "surrogateescape")
    except ValueError:
        raise Unfit("a text in hex is none") from None
