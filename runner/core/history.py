"""Histories of streams: whether facts that are remembered about a stream still apply to the messages in it now.

A sequence alone identifies no message. A server that comes back with an older copy of its files, or without the last ones, gives
the same sequences once more, and a stream that was deleted and made again begins with 1. So all facts that are remembered about a
stream are kept together with the newest known message: its sequence, when it was stored, and when its stream was made.

Rule 1: if that very message is still in the stream, all remembered facts belong to this history.
Rule 2: if it is not, the stream went back. Messages stored after that are later than the newest known message. So the first
        message with a later time is the first of the new history: facts about its sequence, and about all above, are void.
Rule 3: if the server's clock is behind the newest known message, times cannot be compared, and everything remembered is void.
Rule 4: a leader that was deposed, and does not know it, may say that a message is not there. Its answer counts only once most of the
        stream's servers have answered that leader since.

Two cases cannot be recognised. One: messages were stored while the server's clock was behind, and the clock was right again when a
runner checked. Two: a copy is put back after the stream had already gone on from an older copy. Such messages are taken for the
remembered ones, as far as those were stored at the same time or later.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.checked import Count, Line


class Identity(Struct, frozen=True, array_like=True):
    """Identifies one message of one stream; no other message of any history has the same values."""

    created: Line = ""
    """When its stream was made, as the server says."""
    sequence: Count = 0
    """0: no message."""
    stored_ns: Count = 0
    """When the message was stored, in nanoseconds of Unix time; 0: not known."""

    def newer(self, other: Identity) -> Identity:
        """The newer of two identities of the same history."""
        return other if other.sequence > self.sequence else self


NOTHING = Identity()


class StreamState(Struct, frozen=True):
    """A stream as its leader describes it at one moment."""

    created: str
    first: int
    """The lowest sequence that may still be in it; `last + 1` when the stream is empty."""
    last: int
    last_ns: int
    """When the last message was stored, even if it was removed since."""
    now_ns: int
    """The time by the server's clock."""
    leader: str = ""
    silent: tuple[float, ...] = ()
    """For each of its other servers: the seconds since it last answered the leader."""
    work_queue: bool = False
    in_memory: bool = False

    @property
    def newest(self) -> Identity:
        """The last message that was stored in the stream."""
        return Identity(self.created, self.last, self.last_ns)

    def led(self, since: float) -> bool:
        """Whether most of its servers have accepted the leader within the last `since` seconds."""
        return 2 * sum(each < since for each in self.silent) >= len(self.silent)


class HistoryAnswers(Struct, frozen=True):
    """The server's answers to the questions of `judge`; None: not asked yet."""

    stands: int | None = None
    """When the message of the known sequence was stored; 0 when there is none."""
    later: int | None = None
    """The first sequence stored later than the known message; 0 when there is none."""


class Same(Struct, frozen=True):
    """The remembered facts belong to this history."""


class Back(Struct, frozen=True):
    """The stream went back: from sequence `first` on, its messages are others than those remembered."""

    first: int


class Another(Struct, frozen=True):
    """The stream was deleted and made again: none of its messages is one of those remembered."""


Verdict: TypeAlias = Same | Back | Another
HistoryQuestion: TypeAlias = Literal["stands", "later"]
ASKED_NOTHING = HistoryAnswers()


def judge(
    known: Identity, now: StreamState, answers: HistoryAnswers = ASKED_NOTHING
) -> Verdict | HistoryQuestion:
    """Judge whether the stream is still in the history in which `known` was the newest message; or return what to ask first."""
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


def _first(known: Identity, now: StreamState, later: int) -> int:
    return 1 if now.now_ns < known.stored_ns else min(later, now.last + 1)


def begin(floor: int, verdict: Verdict, wanted: int, last: int) -> int:
    """Where a durable that is missing begins again: everything up to `floor` was settled in the history of the verdict.

    `wanted` is the first sequence that the durable shall ever read (0: all), and `last` the stream's last.
    """
    match verdict:
        case Another():
            return 0
        case Back(first):
            return min(max(floor + 1, wanted), first)
        case Same():
            return min(max(floor + 1, wanted), last + 1)


def may_lag(known: Identity, now: StreamState) -> bool:
    """Whether a replicated stream may lag behind the known message: its leader may not have that message, or not yet."""
    return bool(now.silent) and (now.last < known.sequence or now.created < known.created)


def void(verdict: Verdict) -> int | None:
    """The first sequence that belongs to another message by now; None when there is none."""
    match verdict:
        case Another():
            return 1
        case Back(first):
            return first
        case Same():
            return None
