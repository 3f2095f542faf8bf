"""Who may have how many bytes in flight: what is left free, and whose turn it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.budget import DEFAULT, learned, parts
from runner.jetstream.inflight import InFlight
from runner.jetstream.weight import Weight

MIB = 1 << 20


class Pull(Weight):
    """Counts how often it was woken."""

    def __init__(self, shared: InFlight, limit: int = 64) -> None:
        self.woken = 0
        super().__init__(shared, limit, self._wake)
        self.open(holds=False)

    def _wake(self) -> None:
        self.woken += 1

    def take(self, least: int = MIB) -> int:
        """Ask for messages of `least` bytes for as long as there are bytes for them."""
        before = self.in_flight
        while got := min(self._in_flight.grant(self, least), least):
            self.held += got
            if self.held > 1 << 32:
                raise AssertionError("there is no bound")
        return self.in_flight - before

    def take_one(self, least: int) -> bool:
        """Ask for one message."""
        got = min(self._in_flight.grant(self, least), least)
        self.held += got
        return got > 0

    def settle(self) -> None:
        """Everything is settled."""
        self.held = 0
        self._in_flight.freed()


def test_a_hundred_idle_pulls_leave_most_to_the_one_that_works() -> None:
    shared = InFlight()
    pulls = [Pull(shared) for _ in range(100)]
    assert shared.part * 64 * 100 <= DEFAULT // 4
    assert pulls[7].take() >= 24 * MIB


@pytest.mark.parametrize("count", [2, 6, 15])
def test_the_bytes_of_all_stay_within_the_budget_and_each_gets_some(count: int) -> None:
    shared = InFlight()
    pulls = [Pull(shared) for _ in range(count)]
    for pull in pulls * 3:
        pull.take()
    assert sum(pull.in_flight for pull in pulls) <= DEFAULT
    assert all(pull.in_flight for pull in pulls)


def test_one_that_has_nothing_goes_over_the_budget_and_no_second_one_beside_it() -> None:
    shared = InFlight()
    first, second, third = (Pull(shared) for _ in range(3))
    assert first.take_one(200 * MIB)
    assert not second.take_one(200 * MIB)
    assert third.take(MIB) > MIB  # what is over the budget is not taken from the others
    first.settle()
    assert second.woken
    assert second.take_one(200 * MIB)


def test_what_becomes_free_is_for_those_that_have_nothing_in_their_turn() -> None:
    shared = InFlight(8 * MIB)
    pulls = [Pull(shared, limit=1) for _ in range(40)]
    for pull in pulls:
        pull.take()
    served: set[Pull] = {pull for pull in pulls if pull.in_flight}
    assert len(served) < 10
    for _ in range(40):
        for pull in pulls:
            if pull.in_flight:
                pull.settle()
        for pull in pulls:  # those that had their turn ask first
            if pull.take():
                served.add(pull)
    assert served == set(pulls)


@given(st.integers(1 * MIB, 1 << 34), st.integers(1, 10_000))
def test_the_parts_are_no_more_than_the_whole(total: int, slots: int) -> None:
    found = parts(total)
    assert found.parted + found.waiting + found.shared == total
    assert found.part(slots) * slots <= max(found.parted, 512 * slots)
    assert 0 < found.largest < total


def test_a_size_is_learned_at_once_where_it_is_larger_and_by_and_by_where_it_is_smaller() -> None:
    assert learned(1000, 9000) == 9000
    assert learned(9000, 1000) == 5000
