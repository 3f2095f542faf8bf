"""Facts about one message in one function, from the server and the instances; `core/story.py` tells the story from them."""

from __future__ import annotations

from msgspec import Struct

from runner.core.failurerecord import FailureRecord
from runner.core.holding import Held
from runner.core.kepterror import KeptError


class DurableFacts(Struct, frozen=True):
    """What the server says about the durable that delivers the message."""

    name: str
    floor: int
    """All messages up to this sequence are settled."""
    delivered: int
    pending: int
    """How many messages are not delivered yet."""
    unsettled: int
    """How many messages are delivered and not settled."""
    start: int = 0
    """The sequence with which the durable begins; 0: the first one."""
    new: bool = False
    """Whether the durable takes only messages that were stored after it was made."""
    created_ns: int = 0
    paused: str = ""
    """Until when the durable is paused."""


class Hand(Struct, frozen=True):
    """An instance, and how it holds the message."""

    instance: str
    held: Held


class LetterFacts(Struct, frozen=True):
    """The dead letter of the message."""

    sequence: int
    time: str
    reason: str
    error: str
    message: str
    attempts: int


class GatheringFacts(Struct, frozen=True):
    """The event that the message is a part of."""

    present: int
    count: int
    """Number of parts; -1: no part has told it."""
    runner: str = ""
    """The message that runs the function."""
    done: bool = False
    given_up: bool = False


class StoryFacts(Struct, frozen=True, kw_only=True):
    """What is known of one message and one function."""

    sequence: int
    stored_ns: int
    now: float
    last: int
    """The last sequence of the stream."""
    there: bool = True
    """Whether the stream still has the message."""
    keeps: bool = True
    """Whether the stream keeps settled messages."""
    durable: DurableFacts | None = None
    ordered: bool = False
    drained: bool = False
    """Whether its generation of shards was drained, and left."""
    ahead: bool = False
    """Whether its generation of shards is not open yet."""
    hands: tuple[Hand, ...] = ()
    answered: int = 0
    """How many instances that run the function have answered."""
    owner: str = ""
    """For an ordered function: the instance that owns the message's shard."""
    silent: bool = False
    """Whether that instance has not answered."""
    letter: LetterFacts | None = None
    letters_whole: bool = True
    """Whether all dead letters that could be the message's were looked at."""
    parks: bool = False
    """Whether the message's key waits behind it."""
    parked: int = 0
    """The message's sequence in `PARKED`; 0: it is not parked."""
    behind: str = ""
    """The message that the key waits behind."""
    returning: bool = False
    """Whether the key comes back."""
    passed: bool = False
    """Whether the key's mark says that the message is settled."""
    sent_back: str = ""
    """The copy that was sent back to the function; if there is one, `sequence` and `durable` are those of the copy."""
    sent_back_whole: bool = True
    """Whether all messages that were sent back to the function, and could be its copy, were looked at."""
    kept: KeptError | None = None
    failed: FailureRecord | None = None
    """For an ordered function: the failures on record."""
    outputs: int = 0
    """How many outputs of the message were found."""
    gathering: GatheringFacts | None = None
