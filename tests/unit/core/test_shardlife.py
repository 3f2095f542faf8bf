"""The table of a shard's life: whatever happens in whatever order, it is asked before it is open."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.core.shardlife import RECOVERING, TABLE, Action, Event, ShardLife, State

EVENTS = st.lists(st.sampled_from(Event), max_size=60)


def test_a_shard_that_is_taken_is_asked_called_and_awaited_before_it_is_open() -> None:
    life = ShardLife()
    assert life.happens(Event.LOADED) == (Action.HOLD, Action.RECOVER)
    seen = [life.state]
    for event in (Event.ASK, Event.TOLD, Event.CALLED, Event.COMPLETE):
        assert life.happens(event) == ()
        seen.append(life.state)
    assert seen == [State.DOUBTED, State.ASKING, State.CALLING, State.AWAITING, State.OPEN]


@given(EVENTS)
def test_it_is_never_open_without_an_answer_that_came_after_the_last_doubt(events: list[Event]) -> None:
    life, told = ShardLife(), False
    for event in events:
        before = life.state
        life.happens(event)
        if event is Event.DOUBT and before is not State.RELEASED:
            told = False
        if event is Event.TOLD and before is State.ASKING:
            told = True
        if event is Event.LATE and before in (State.ASKING, State.AWAITING):
            told = False
        if life.state is State.OPEN:
            assert told


@given(EVENTS)
def test_it_recovers_once_at_a_time_and_whenever_something_may_be_missing(events: list[Event]) -> None:
    life, running = ShardLife(), False
    for event in events:
        actions = life.happens(event)
        if Action.RECOVER in actions:
            assert not running
            running = True
        running &= life.recovering  # it ends by itself where that is over
        assert running == life.recovering


@given(EVENTS)
def test_doubt_holds_everything_that_is_owned(events: list[Event]) -> None:
    life = ShardLife()
    for event in events:
        owned = life.owned
        actions = life.happens(event)
        if event is Event.DOUBT:
            assert (Action.HOLD in actions) == owned


@given(EVENTS, EVENTS)
def test_nothing_brings_back_what_was_let_go(before: list[Event], after: list[Event]) -> None:
    life = ShardLife()
    for event in (*before, Event.LET_GO):
        life.happens(event)
    assert (life.state, life.owned) == (State.RELEASED, False)
    assert [life.happens(event) for event in after] == [()] * len(after)
    assert (life.state, life.owned) == (State.RELEASED, False)


def test_every_state_can_be_reached_and_left_but_the_last() -> None:
    reached = {step.state for steps in TABLE.values() for step in steps.values()}
    assert reached == set(State) - {State.TAKING}
    assert [state for state, steps in TABLE.items() if Event.LET_GO not in steps] == [State.RELEASED]
    assert {state for state in State if ShardLife(state).recovering} == RECOVERING
