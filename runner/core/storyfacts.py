"""What is known of one message and one function: what the server and the instances say, as the story of the message is told by it."""

from __future__ import annotations

from msgspec import Struct

from runner.core.failed import Failed
from runner.core.holding import Held
from runner.core.kepterror import KeptError


class Durable(Struct, frozen=True):
    """What the server says of the durable that the message is delivered with."""

    name: str
    floor: int
    """Everything up to here is settled."""
    delivered: int
    pending: int
    """Messages that are not delivered yet."""
    unsettled: int
    """Messages that are delivered and not settled."""
    start: int = 0
    """It begins with this sequence; 0: with the first."""
    new: bool = False
    """It takes only what was stored after it was made."""
    created_ns: int = 0
    paused: str = ""
    """Until when it is paused."""


class Hand(Struct, frozen=True):
    """What an instance has of the message."""

    instance: str
    held: Held


class Letter(Struct, frozen=True):
    """Its dead letter."""

    sequence: int
    time: str
    reason: str
    error: str
    message: str
    attempts: int


class Gathering(Struct, frozen=True):
    """The event that the message is a part of."""

    present: int
    count: int
    """Parts in all; -1: no part has told."""
    runner: str = ""
    """The message that runs the function."""
    done: bool = False
    given_up: bool = False


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of one message and one function."""

    sequence: int
    stored_ns: int
    now: float
    last: int
    """The last sequence of the stream."""
    there: bool = True
    """Whether the stream still has the message."""
    keeps: bool = True
    """Whether the stream keeps what is settled."""
    durable: Durable | None = None
    ordered: bool = False
    drained: bool = False
    """Whether its generation of shards was worked off, and left."""
    ahead: bool = False
    """Whether its generation of shards is not open yet."""
    hands: tuple[Hand, ...] = ()
    answered: int = 0
    """Instances that run the function and have answered."""
    owner: str = ""
    """Of an ordered function: the instance that owns its shard."""
    silent: bool = False
    """Whether that one has not answered."""
    letter: Letter | None = None
    letters_whole: bool = True
    """Whether all dead letters that could be its own were looked at."""
    parks: bool = False
    """Whether its key waits behind it."""
    parked: int = 0
    """Its sequence in `PARKED`."""
    behind: str = ""
    """The message that its key waits behind."""
    returning: bool = False
    """Whether its key comes back."""
    passed: bool = False
    """Whether its key's mark says that it is settled."""
    sent_back: str = ""
    """The copy that was sent back to the function; then sequence and durable are those of the copy."""
    sent_back_whole: bool = True
    """Whether all messages that were sent back to the function, and could be its copy, were looked at."""
    kept: KeptError | None = None
    failed: Failed | None = None
    """Of an ordered function: failures on record."""
    outputs: int = 0
    """Outputs of it that were found."""
    gathering: Gathering | None = None
