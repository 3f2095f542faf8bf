"""The life of one shard in one process, from its claim until it is let go, as a table.

    taking → doubted → asking → calling → awaiting → open        draining → released

Rule 1: nothing starts before the server was asked what it holds unsettled, and all of that is here again.
Rule 2: when the shard is in doubt again, the answers that the server gave before count no more: it is asked once more.
Rule 3: no event changes a shard that was let go; its next claim begins another life.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from msgspec import Struct


class State(Enum):
    """Where a shard stands in this process."""

    TAKING = auto()
    """Claimed; what others have left of it is being read."""
    DOUBTED = auto()
    """The server is to be asked what it holds unsettled."""
    ASKING = auto()
    """The server is being asked."""
    CALLING = auto()
    """The server is told to deliver again what is missing here; no new messages are asked for meanwhile."""
    AWAITING = auto()
    """The missing messages are on their way."""
    OPEN = auto()
    """All messages that were missing are here: new ones start."""
    DRAINING = auto()
    """No message starts any more; handlers that run may end, and what they settle is put on record."""
    RELEASED = auto()
    """Another may have it. What still runs is no longer this shard's."""


class Event(Enum):
    """What happens to it."""

    LOADED = auto()
    """What others have left was read."""
    DOUBT = auto()
    """Something may have been lost: a delivery, a connection, a record."""
    ASK = auto()
    """The server is asked now."""
    TOLD = auto()
    """It has answered, and that is still true."""
    CALLED = auto()
    """It was told to deliver all that is missing."""
    LATE = auto()
    """An answer or a delivery did not come in time, or is out of date."""
    COMPLETE = auto()
    """Nothing is missing any more."""
    DRAIN = auto()
    """It is to be handed over."""
    LET_GO = auto()
    """It was handed over, or is another's."""


class Action(Enum):
    """What has to be done then."""

    HOLD = auto()
    """Start nothing, and settle without a word to the server."""
    RECOVER = auto()
    """Begin to ask the server, until nothing is missing."""


class Step(Struct, frozen=True):
    """What follows from an event."""

    state: State
    actions: tuple[Action, ...] = ()


_END = {Event.DRAIN: Step(State.DRAINING), Event.LET_GO: Step(State.RELEASED)}
_DOUBT = {Event.DOUBT: Step(State.DOUBTED, (Action.HOLD,))}
_LATE = {Event.LATE: Step(State.DOUBTED)}

TABLE: Mapping[State, Mapping[Event, Step]] = {
    State.TAKING: {**_END, Event.LOADED: Step(State.DOUBTED, (Action.HOLD, Action.RECOVER))},
    State.DOUBTED: {**_END, **_DOUBT, Event.ASK: Step(State.ASKING)},
    State.ASKING: {**_END, **_DOUBT, **_LATE, Event.TOLD: Step(State.CALLING)},
    State.CALLING: {**_END, **_DOUBT, Event.CALLED: Step(State.AWAITING)},
    State.AWAITING: {**_END, **_DOUBT, **_LATE, Event.COMPLETE: Step(State.OPEN)},
    State.OPEN: {**_END, Event.DOUBT: Step(State.DOUBTED, (Action.HOLD, Action.RECOVER))},
    State.DRAINING: {Event.LET_GO: Step(State.RELEASED)},
    State.RELEASED: {},
}
"""An event that is not there changes nothing."""

RECOVERING = frozenset({State.DOUBTED, State.ASKING, State.CALLING, State.AWAITING})
"""Something is missing here, or may be."""


class ShardLife:
    """From one claim on; `owned` while its messages may start once nothing is missing."""

    __slots__ = ("owned", "state")

    def __init__(self, state: State = State.TAKING) -> None:
        self.state = state
        self.owned = False

    @property
    def recovering(self) -> bool:
        """Whether the server is asked, until nothing is missing."""
        return self.state in RECOVERING

    def happens(self, event: Event) -> tuple[Action, ...]:
        """Go on in the table, and give what has to be done."""
        step = TABLE[self.state].get(event)
        if step is None:
            return ()
        self.state = step.state
        self.owned = self.state in RECOVERING or self.state is State.OPEN
        return step.actions
