"""The life of one shard in one process, from its claim until its release, as a table.

    taking → doubted → asking → calling → awaiting → open        draining → released

Rule 1: nothing starts before the server has said which messages it holds unsettled, and all of those are here again.
Rule 2: when the shard is in doubt again, earlier answers of the server count no more: it is asked once more.
Rule 3: no event changes a shard that was released; its next claim begins another life.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from msgspec import Struct


class ShardState(Enum):
    """Where a shard stands in this process."""

    TAKING = auto()
    """The shard is claimed; the records that other owners have left are being read."""
    DOUBTED = auto()
    """The server has to be asked which messages it holds unsettled."""
    ASKING = auto()
    """The server is being asked."""
    CALLING = auto()
    """The server is told to deliver the missing messages again; no new messages are asked for meanwhile."""
    AWAITING = auto()
    """The missing messages are on their way."""
    OPEN = auto()
    """All messages that were missing are here: new ones start."""
    DRAINING = auto()
    """No message starts any more; handlers that run may end, and their settlements are put on record."""
    RELEASED = auto()
    """Another instance may own the shard. Messages that still run no longer belong to it."""


class ShardEvent(Enum):
    """What happens to a shard."""

    LOADED = auto()
    """The records that other owners have left were read."""
    DOUBT = auto()
    """Something may have been lost: a delivery, a connection, a record."""
    ASK = auto()
    """The server is asked now."""
    TOLD = auto()
    """The server has answered, and the answer still holds."""
    CALLED = auto()
    """The server was told to deliver all missing messages."""
    LATE = auto()
    """An answer or a delivery did not come in time, or is out of date."""
    COMPLETE = auto()
    """No message is missing any more."""
    DRAIN = auto()
    """The shard is to be handed over."""
    LET_GO = auto()
    """The shard was handed over, or belongs to another instance."""


class Action(Enum):
    """What has to be done after an event."""

    HOLD = auto()
    """Start nothing, and settle without acks to the server."""
    RECOVER = auto()
    """Begin to ask the server, until no message is missing."""


class Step(Struct, frozen=True):
    """What follows from an event."""

    state: ShardState
    actions: tuple[Action, ...] = ()


_END = {ShardEvent.DRAIN: Step(ShardState.DRAINING), ShardEvent.LET_GO: Step(ShardState.RELEASED)}
_DOUBT = {ShardEvent.DOUBT: Step(ShardState.DOUBTED, (Action.HOLD,))}
_LATE = {ShardEvent.LATE: Step(ShardState.DOUBTED)}

TABLE: Mapping[ShardState, Mapping[ShardEvent, Step]] = {
    ShardState.TAKING: {**_END, ShardEvent.LOADED: Step(ShardState.DOUBTED, (Action.HOLD, Action.RECOVER))},
    ShardState.DOUBTED: {**_END, **_DOUBT, ShardEvent.ASK: Step(ShardState.ASKING)},
    ShardState.ASKING: {**_END, **_DOUBT, **_LATE, ShardEvent.TOLD: Step(ShardState.CALLING)},
    ShardState.CALLING: {**_END, **_DOUBT, ShardEvent.CALLED: Step(ShardState.AWAITING)},
    ShardState.AWAITING: {**_END, **_DOUBT, **_LATE, ShardEvent.COMPLETE: Step(ShardState.OPEN)},
    ShardState.OPEN: {**_END, ShardEvent.DOUBT: Step(ShardState.DOUBTED, (Action.HOLD, Action.RECOVER))},
    ShardState.DRAINING: {ShardEvent.LET_GO: Step(ShardState.RELEASED)},
    ShardState.RELEASED: {},
}
"""The next step by state and event; an event that a state does not list changes nothing."""

RECOVERING = frozenset({ShardState.DOUBTED, ShardState.ASKING, ShardState.CALLING, ShardState.AWAITING})
"""The states in which messages are missing here, or may be."""


class ShardLife:
    """The life of a shard from one claim on; `owned` while its messages may start once none is missing."""

    __slots__ = ("owned", "state")

    def __init__(self, state: ShardState = ShardState.TAKING) -> None:
        self.state = state
        self.owned = False

    @property
    def recovering(self) -> bool:
        """Whether the server has to be asked, until no message is missing."""
        return self.state in RECOVERING

    def happens(self, event: ShardEvent) -> tuple[Action, ...]:
        """Take the step of an event, and return what has to be done."""
        step = TABLE[self.state].get(event)
        if step is None:
            return ()
        self.state = step.state
        self.owned = self.state in RECOVERING or self.state is ShardState.OPEN
        return step.actions
