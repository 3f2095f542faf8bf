"""Histories of streams: whether what is remembered of a stream is still about the messages that stand in it now.

A sequence alone names no message. A server that comes back with an older copy of its files, or without its last ones,
gives the same numbers once more, and a stream that was deleted and made again begins with 1. So whatever is remembered of
a stream goes with the newest message that it knew: its sequence, when it was stored, and when its stream was made.

Rule 1: where that very message still stands, everything remembered is of this history.
Rule 2: where it does not, the stream went back. What was stored after that is later than the newest message known, so the
        first message stored later than that one is the first that is another's: its number, and all above, are void.
Rule 3: where the server's clock is behind the newest message known, times tell nothing, and every number is void.
Rule 4: that a message is not there yet may be the word of a leader that was deposed and does not know of it. It counts
        once most of the stream's servers have answered that leader since.

What cannot be told: messages that took their numbers while the server's clock was behind, when it is right again by the
time that somebody looks; and those of a copy that was put back after the stream had gone on from an older one. Their
numbers are taken for those of the messages that are remembered, as far as these were stored at the same time or later.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.checked import Count, Line


class Identity(Struct, frozen=True, array_like=True):
    """One message of one stream; no other message, of any history, has the same."""

    created: Line = ""
    """When its stream was made, as the server tells it."""
    sequence: Count = 0
    """0: no message."""
    stored_ns: Count = 0
    """When it was stored, in nanoseconds of Unix time; 0 when that is not known."""

    def newer(self, other: Identity) -> Identity:
        """The newer one of two of the same history."""
        return other if other.sequence > self.sequence else self


NOTHING = Identity()


class State(Struct, frozen=True):
    """A stream as its leader tells of it at one moment."""

    created: str
    first: int
    """The oldest sequence that may still stand in it; one above `last` when it is empty."""
    last: int
    last_ns: int
    """When the last message was stored, whether it still stands or not."""
    now_ns: int
    """The server's clock."""
    leader: str = ""
    silent: tuple[float, ...] = ()
    """How long ago each of its other servers has answered the leader, in seconds."""
    work_queue: bool = False
    in_memory: bool = False

    @property
    def newest(self) -> Identity:
        """The last message that was stored in it."""
        return Identity(self.created, self.last, self.last_ns)

    def led(self, since: float) -> bool:
        """Whether most of its servers took the leader for theirs within so many seconds."""
        return 2 * sum(each < since for each in self.silent) >= len(self.silent)


class Answers(Struct, frozen=True):
    """What the server has said to the questions of `judge`; None while it was not asked."""

    stands: int | None = None
    """When the message of the known sequence was stored; 0 when there is none."""
    later: int | None = None
    """The first sequence stored later than the known message; 0 when there is none."""


class Same(Struct, frozen=True):
    """What is remembered is of this history."""


class Back(Struct, frozen=True):
    """The stream went back: from sequence `first` on, its messages are others than those remembered."""

    first: int


class Another(Struct, frozen=True):
    """The stream was deleted and made again: none of its messages is one of those remembered."""


Verdict: TypeAlias = Same | Back | Another
Question: TypeAlias = Literal["stands", "later"]
ASKED_NOTHING = Answers()


def judge(known: Identity, now: State, answers: Answers = ASKED_NOTHING) -> Verdict | Question:
    """Say whether a stream is the one in which `known` was the newest message; or what to ask for that."""
    if not known.sequence:
        return Same()
    if known.created != now.created:
        return Another()
    if now.last < known.sequence:
        if not known.stored_ns:
            return Back(now.last + 1)
        if answers.later is None:
            return "later"
        return Back(_first(known, now, answers.later or now.last + 1))
    if not known.stored_ns or known == now.newest:
        return Same()
    if answers.stands is None:
        return "stands"
    if answers.stands == known.stored_ns:
        return Same()
    if answers.later is None:
        return "later"
    overwritten = 0 < answers.later <= known.sequence
    if answers.stands:
        return Back(_first(known, now, answers.later) if overwritten else 1)
    return Back(answers.later) if overwritten else Same()


def _first(known: Identity, now: State, later: int) -> int:
    return 1 if now.now_ns < known.stored_ns else min(later, now.last + 1)


def begin(floor: int, verdict: Verdict, wanted: int, last: int) -> int:
    """Where a durable begins that is missing: everything up to `floor` was settled in the history of the verdict.

    `wanted` is the first sequence that it shall ever read (0: all), and `last` the stream's last.
    """
    match verdict:
        case Another():
            return 0
        case Back(first):
            return min(max(floor + 1, wanted), first)
        case Same():
            return min(max(floor + 1, wanted), last + 1)


def may_lag(known: Identity, now: State) -> bool:
    """Whether a stream of several servers lacks what is known: its leader may not know of it, or not yet."""
    return bool(now.silent) and (now.last < known.sequence or now.created < known.created)


def void(verdict: Verdict) -> int | None:
    """The first sequence whose message is another's by now; None when none is."""
    match verdict:
        case Another():
            return 1
        case Back(first):
            return first
        case Same():
            return None
