"""The table of a shard's life: whatever happens in whatever order, it is asked before it is open."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.core.shardlife import RECOVERING, TABLE, Action, ShardEvent, ShardLife, ShardState

EVENTS = st.lists(st.sampled_from(ShardEvent), max_size=60)


def test_a_shard_that_is_taken_is_asked_called_and_awaited_before_it_is_open() -> None:
    life = ShardLife()
    assert life.happens(ShardEvent.LOADED) == (Action.HOLD, Action.RECOVER)
    seen = [life.state]
    for event in (ShardEvent.ASK, ShardEvent.TOLD, ShardEvent.CALLED, ShardEvent.COMPLETE):
        assert life.happens(event) == ()
        seen.append(life.state)
    assert seen == [
        ShardState.DOUBTED,
        ShardState.ASKING,
        ShardState.CALLING,
        ShardState.AWAITING,
        ShardState.OPEN,
    ]


@given(EVENTS)
def test_it_is_never_open_without_an_answer_that_came_after_the_last_doubt(events: list[ShardEvent]) -> None:
    life, told = ShardLife(), False
    for event in events:
        before = life.state
        life.happens(event)
        if event is ShardEvent.DOUBT and before is not ShardState.RELEASED:
            told = False
        if event is ShardEvent.TOLD and before is ShardState.ASKING:
            told = True
        if event is ShardEvent.LATE and before in (ShardState.ASKING, ShardState.AWAITING):
            told = False
        if life.state is ShardState.OPEN:
            assert told


@given(EVENTS)
def test_it_recovers_once_at_a_time_and_whenever_something_may_be_missing(events: list[ShardEvent]) -> None:
    life, running = ShardLife(), False
    for event in events:
        actions = life.happens(event)
        if Action.RECOVER in actions:
            assert not running
            running = True
        running &= life.recovering  # it ends by itself where that is over
        assert running == life.recovering


@given(EVENTS)
def test_doubt_holds_everything_that_is_owned(events: list[ShardEvent]) -> None:
    life = ShardLife()
    for event in events:
        owned = life.owned
        actions = life.happens(event)
        if event is ShardEvent.DOUBT:
            assert (Action.HOLD in actions) == owned


@given(EVENTS, EVENTS)
def test_nothing_brings_back_what_was_let_go(before: list[ShardEvent], after: list[ShardEvent]) -> None:
    life = ShardLife()
    for event in (*before, ShardEvent.LET_GO):
        life.happens(event)
    assert (life.state, life.owned) == (ShardState.RELEASED, False)
    assert [life.happens(event) for event in after] == [()] * len(after)
    assert (life.state, life.owned) == (ShardState.RELEASED, False)


def test_every_state_can_be_reached_and_left_but_the_last() -> None:
    reached = {step.state for steps in TABLE.values() for step in steps.values()}
    assert reached == set(ShardState) - {ShardState.TAKING}
    assert [state for state, steps in TABLE.items() if ShardEvent.LET_GO not in steps] == [
        ShardState.RELEASED
    ]
    assert {state for state in ShardState if ShardLife(state).recovering} == RECOVERING
