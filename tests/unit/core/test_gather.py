"""The record of a split event: which message runs the function."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from runner.core.gather import NONE, EventRecord, Next, arrive, decode, encode, expire


def test_the_write_that_makes_it_complete_names_the_message_that_runs() -> None:
    first = arrive(NONE, {"S:1": 0}, 2)
    assert first.record is not None
    assert first.runs == ""
    second = arrive(first.record, {"S:2": 1}, 2)
    assert second.record is not None
    assert second.runs == second.record.runner == "S:2"
    assert decode(encode(second.record)) == second.record


def test_a_part_that_comes_again_writes_nothing() -> None:
    record = arrive(NONE, {"S:1": 0}, 2).record
    assert record is not None
    assert arrive(record, {"S:1": 0}, 2) == Next()
    assert arrive(record, {"S:9": 0}, 2) == Next(), "nor does its duplicate"


def test_the_message_that_runs_runs_again_and_no_other() -> None:
    record = EventRecord("3", 2, "S:2")
    assert arrive(record, {"S:1": 0, "S:2": 1}, 2) == Next(runs="S:2")
    assert arrive(record, {"S:3": 1}, 2) == Next()


def test_what_comes_after_the_end_is_late() -> None:
    assert arrive(EventRecord(done=True), {"S:2": 1}, 2) == Next(late=True)
    assert expire(EventRecord(done=True), "T:1", there=False).late


def test_a_split_that_ran_again_with_more_parts_is_complete_with_all_of_them() -> None:
    record = arrive(NONE, {"S:1": 0}, 2).record
    assert record is not None
    following = arrive(record, {"S:2": 1}, 3)
    assert (following.runs, following.record) == ("", EventRecord("3", 3))
    assert following.record is not None
    assert arrive(following.record, {"S:3": 2}, 3).runs == "S:3"


def test_a_split_that_ran_again_with_fewer_parts_waits_for_those_it_first_told_of() -> None:
    record = arrive(NONE, {"S:1": 0}, 3).record
    assert record is not None
    following = arrive(record, {"S:2": 1}, 2)
    assert following.record is not None
    assert (following.runs, following.record.missing) == ("", (2,))


def test_an_event_without_parts_is_complete_at_once() -> None:
    following = arrive(NONE, {"S:1": -1}, 0)
    assert following.runs == "S:1"
    assert following.record is not None
    assert (following.record.present, following.record.missing) == ([], ())


def test_at_the_end_of_its_time_it_runs_with_what_is_there() -> None:
    record = EventRecord("5", 4)
    following = expire(record, "T:1", there=False)
    assert following.runs == "T:1"
    assert following.record is not None
    assert (following.record.present, following.record.missing) == ([0, 2], (1, 3))
    assert expire(following.record, "T:1", there=False) == Next(runs="T:1"), "it has failed, and comes again"


def test_at_the_end_of_its_time_another_message_may_still_run_it() -> None:
    record = EventRecord("3", 2, "S:2")
    assert expire(record, "T:1", there=True) == Next(waits=True)
    assert expire(record, "T:1", there=False).runs == "T:1", "the other is gone from its stream"


def test_what_was_given_up_is_not_run_by_the_end_of_its_time_but_by_a_redrive() -> None:
    record = EventRecord("3", 2, "S:2", given_up=True)
    assert expire(record, "T:1", there=False) == Next()
    assert arrive(record, {"S:2": 1}, 2).runs == "S:2"
    assert expire(EventRecord("1", 2, "T:1", given_up=True), "T:1", there=False).runs == "T:1"


@given(st.integers(1, 40), st.integers(0, 1 << 30))
def test_one_message_runs_whatever_comes_in_which_order_and_how_often(count: int, seed: int) -> None:
    luck = random.Random(seed)
    deliveries = [(f"S:{number}", number % count) for number in range(count + luck.randrange(count + 1))]
    deliveries += luck.choices(deliveries, k=luck.randrange(10))
    luck.shuffle(deliveries)
    record, named = NONE, set[str]()
    while deliveries:
        size = luck.randint(1, 5)
        window, deliveries = dict(deliveries[:size]), deliveries[size:]
        following = arrive(record, window, count)
        record = following.record or record
        named |= {following.runs} - {""}
    assert len(named) == 1
    assert record.present == [*range(count)]
