"""Lanes and the barrier, case by case; tests/model/test_order.py lets a server and its owners do anything."""

from __future__ import annotations

import pytest

from runner.core.ordering import Ordering, Recovery


@pytest.fixture
def shard() -> Ordering:
    """A shard that was taken over with nothing pending."""
    ordering = Ordering()
    assert ordering.takeover(0, 0, 0) == Recovery(range(0), (), ())
    return ordering


def settle(ordering: Ordering, sequence: int) -> tuple[int, ...]:
    """Settle a message and commit that; what may start then."""
    ordering.settle(sequence)
    return tuple(ordering.commit(ordering.take(1_000)))


def test_messages_of_different_keys_run_side_by_side(shard: Ordering) -> None:
    assert shard.arrive(1, "a") == (1,)
    assert shard.arrive(2, "b") == (2,)
    assert (shard.running, shard.holding) == (2, 0)


def test_a_keys_messages_run_one_after_the_other(shard: Ordering) -> None:
    assert [shard.arrive(sequence, "a") for sequence in (1, 2, 3)] == [(1,), (), ()]
    assert (shard.running, shard.holding) == (1, 2)
    assert settle(shard, 1) == (2,)
    assert settle(shard, 2) == (3,)
    assert settle(shard, 3) == ()
    assert (shard.running, shard.holding) == (0, 0)
    assert shard.arrive(4, "a") == (4,)


def test_a_message_that_is_here_or_was_settled_changes_nothing(shard: Ordering) -> None:
    shard.arrive(1, "a")
    shard.arrive(2, "a")
    assert shard.arrive(1, "a") == shard.arrive(2, "a") == ()
    assert shard.holding == 1
    settle(shard, 1)
    assert shard.arrive(1, "a") == ()
    assert shard.settled(1)
    assert not shard.settled(2)


def test_an_older_message_nobody_missed_goes_before_those_that_wait(shard: Ordering) -> None:
    for sequence in (1, 4, 6):
        shard.arrive(sequence, "a")
    assert shard.arrive(5, "a") == shard.arrive(3, "a") == ()
    assert shard.arrive(2, "b") == (2,)
    assert [settle(shard, sequence) for sequence in (1, 3, 4, 5)] == [(3,), (4,), (5,), (6,)]


def test_nothing_starts_before_the_first_takeover() -> None:
    ordering = Ordering()
    assert ordering.barrier
    assert ordering.arrive(7, "a") == ()
    assert ordering.holding == 0
    assert ordering.takeover(0, 0, 0).start == ()


def test_a_takeover_asks_for_what_its_predecessor_left_and_starts_it_sorted_before_anything_new() -> None:
    ordering = Ordering()
    assert ordering.takeover(10, 14, 3) == Recovery(range(11, 15), (), ())
    assert ordering.awaited == 3
    assert ordering.arrive(15, "a") == ()
    assert ordering.arrive(14, "a") == ordering.arrive(14, "a") == ()
    assert ordering.arrive(11, "a") == ()
    assert ordering.awaited == 1
    assert ordering.arrive(13, "b") == (11, 13)
    assert not ordering.barrier
    assert settle(ordering, 11) == (14,)
    assert settle(ordering, 14) == (15,)


def test_what_is_here_is_not_asked_for_and_what_was_settled_is_acked_again(shard: Ordering) -> None:
    for sequence, key in ((1, "a"), (2, "b"), (3, "a"), (5, "c")):
        shard.arrive(sequence, key)
    settle(shard, 2)
    assert shard.takeover(0, 6, 5) == Recovery(range(1, 7), (2,), ())
    assert shard.missing(range(1, 7)) == [4, 6]
    assert settle(shard, 1) == (), "3 of its key may not start: 2 or 4 might be of that key too"
    # The ack of 2 arrived now, and 1 is settled as well.
    assert shard.takeover(2, 6, 4) == Recovery(range(3, 7), (), ())
    assert shard.arrive(4, "a") == ()
    assert shard.arrive(6, "b") == (3, 6)
    assert settle(shard, 3) == (4,)


def test_a_takeover_that_misses_nothing_opens_at_once(shard: Ordering) -> None:
    shard.arrive(1, "a")
    shard.hold()
    assert shard.arrive(2, "b") == ()
    assert settle(shard, 1) == ()
    assert shard.takeover(1, 2, 1) == Recovery(range(0), (), (2,))
    assert shard.arrive(3, "c") == (3,)


def test_what_comes_after_the_server_was_asked_is_new(shard: Ordering) -> None:
    shard.hold()
    shard.arrive(4, "a")
    shard.arrive(3, "a")
    assert shard.takeover(0, 3, 2) == Recovery(range(1, 4), (), ())
    assert shard.arrive(2, "a") == (2,)
    assert settle(shard, 2) == (3,)
    assert shard.arrive(4, "a") == ()
    assert settle(shard, 3) == (4,)


def test_a_released_shard_forgets_what_waits_but_a_running_message_keeps_its_lane(shard: Ordering) -> None:
    for sequence, key in ((1, "a"), (2, "a"), (3, "b")):
        shard.arrive(sequence, key)
    shard.release()
    assert (shard.running, shard.holding) == (2, 0)
    assert shard.arrive(4, "c") == ()
    assert shard.holding == 0
    assert shard.outlasted(3, "b") == ()
    assert shard.takeover(0, 3, 3) == Recovery(range(1, 4), (), ())
    shard.arrive(1, "a")
    shard.arrive(2, "a")
    assert shard.arrive(3, "b") == (3,), "what ended after the release was not settled"
    assert shard.outlasted(1, "a") == (1,), "the old run ends, the new one starts"
    assert shard.outlasted(1, "a") == (), "it ends once"
    assert settle(shard, 1) == (2,)


def test_a_lane_that_was_not_used_is_free_once_the_shard_is_released(shard: Ordering) -> None:
    for sequence, key in ((1, "a"), (2, "a"), (3, "b")):
        shard.arrive(sequence, key)
    shard.release([2, 3])
    assert shard.running == 1
    shard.takeover(0, 3, 1)
    assert shard.arrive(3, "b") == (3,)


def test_what_was_settled_elsewhere_does_not_free_the_lane_of_its_old_run(shard: Ordering) -> None:
    shard.arrive(5, "a")
    shard.release()
    shard.know([5])
    recovery = shard.takeover(0, 9, 0)
    assert recovery.reack == (5,)
    shard.settle_again(recovery.reack)
    assert shard.commit(shard.take(9)) == []
    assert settle(shard, 5) == ()
    assert shard.arrive(12, "a") == (), "its old run has not ended"
    assert shard.outlasted(5, "a") == (12,)


def test_a_shard_that_is_lost_twice_keeps_the_lane_of_the_first_run(shard: Ordering) -> None:
    shard.arrive(5, "a")
    shard.release()
    shard.takeover(0, 5, 1)
    assert shard.arrive(5, "a") == ()
    shard.release([5])
    shard.takeover(0, 5, 1)
    assert shard.arrive(5, "a") == shard.arrive(6, "a") == ()
    assert shard.outlasted(5, "a") == (5,)
    assert shard.outlasted(5, "a") == ()
    assert settle(shard, 5) == (6,)


def test_what_comes_between_a_release_and_the_next_takeover_of_a_shard_that_stays_ours_is_kept() -> None:
    ordering = Ordering()
    ordering.release()
    ordering.hold()
    assert ordering.arrive(1, "a") == ()
    assert ordering.takeover(0, 1, 1).start == (1,)


def test_the_same_number_in_a_stream_made_anew_is_another_lane(shard: Ordering) -> None:
    shard.arrive(5, "a")
    shard.release()
    shard.takeover(0, 0, 0)
    assert shard.arrive(5, "b") == (5,)
    shard.release()
    shard.takeover(0, 0, 0)
    shard.arrive(6, "a")
    shard.arrive(7, "b")
    assert shard.outlasted(5, "b") == (7,)
    assert shard.outlasted(5, "a") == (6,)


def test_a_lane_goes_on_once_the_settlement_is_committed(shard: Ordering) -> None:
    for sequence, key in ((1, "a"), (2, "a"), (3, "b"), (4, "c")):
        shard.arrive(sequence, key)
    assert [shard.settle(each) for each in (1, 3, 4)] == [True, False, False]
    assert (shard.uncommitted, shard.running, shard.holding) == (3, 3, 1)
    assert all(map(shard.settled, (1, 3, 4)))
    assert shard.arrive(5, "b") == ()
    taken = shard.take(2)
    assert (taken, shard.uncommitted) == ([1, 3], 3)
    assert shard.commit(taken) == [2, 5]
    assert (shard.uncommitted, shard.running) == (1, 3)


def test_what_was_not_committed_goes_first_the_next_time(shard: Ordering) -> None:
    for sequence in (1, 2, 3):
        shard.arrive(sequence, sequence)
        shard.settle(sequence)
    shard.put_back(shard.take(2))
    assert shard.take(3) == [1, 2, 3]


def test_what_was_settled_before_a_release_is_not_committed_after_it(shard: Ordering) -> None:
    for sequence in (1, 2, 3):
        shard.arrive(sequence, "a")
    shard.settle(1)
    taken = shard.take(1)
    shard.release()
    assert (shard.uncommitted, shard.running) == (0, 0)
    shard.takeover(0, 3, 3)
    assert [shard.arrive(sequence, "a") for sequence in (1, 2, 3)] == [(), (), (1,)]
    assert shard.commit(taken) == []
    shard.put_back(taken)
    assert (shard.uncommitted, shard.running) == (0, 1)


def test_a_takeover_does_not_count_what_is_settled_among_what_is_here(shard: Ordering) -> None:
    """The server may have its ack, and count it no more: then another message would be taken for it."""
    shard.arrive(1, "a")
    shard.arrive(2, "b")
    shard.settle(1)
    assert shard.takeover(0, 3, 2).start == ()
    assert shard.awaited == 1
    assert shard.arrive(3, "b") == ()
    assert settle(shard, 2) == (3,)


def test_the_latest_settled_are_remembered_and_older_ones_forgotten_in_time() -> None:
    ordering = Ordering(remember=10)
    ordering.takeover(0, 0, 0)
    for sequence in range(1, 101):
        ordering.arrive(sequence, sequence % 3)
        settle(ordering, sequence)
    assert all(ordering.settled(sequence) for sequence in range(91, 101))
    assert not any(ordering.settled(sequence) for sequence in range(1, 80))


def test_what_waits_is_told_by_lane_and_behind_the_barrier(shard: Ordering) -> None:
    for sequence, key in ((1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "c")):
        shard.arrive(sequence, key)
    assert list(map(list, shard.waiting_lanes())) == [[3, 4], []]
    shard.hold()
    shard.arrive(6, "d")
    assert list(map(list, shard.waiting_lanes())) == [[3, 4, 6]]


def test_one_blocked_key_does_not_hold_up_the_others(shard: Ordering) -> None:
    for sequence in range(1, 9_001):
        shard.arrive(sequence, "blocked")
    assert shard.arrive(9_001, "free") == (9_001,)
    assert settle(shard, 9_001) == ()
    assert (shard.running, shard.holding) == (1, 8_999)


def test_what_the_stream_has_lost_is_forgotten_and_what_it_still_has_is_not(shard: Ordering) -> None:
    for sequence, key in ((1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "b"), (6, "d"), (7, "d")):
        shard.arrive(sequence, key)
    settle(shard, 1)  # 3 runs
    settle(shard, 6)  # 7 has a lane, and has not begun
    shard.cut(4, free=(7,))
    assert shard.barrier
    assert (shard.settled(1), shard.settled(6)) == (False, False)
    assert (shard.running, shard.holding) == (3, 0)  # 2 and 3 of the stream's, and 4, which it has lost
    assert shard.takeover(1, 3, 2) == Recovery(range(0), (), ())
    assert shard.arrive(4, "c") == ()  # another message: its key waits for the one that was lost
    assert shard.arrive(5, "d") == (5,)
    assert shard.arrive(6, "b") == ()
    assert settle(shard, 2) == (6,)
    assert shard.outlasted(4, "c") == (4,)


def test_a_shard_that_is_another_instances_stays_so_when_its_stream_goes_back() -> None:
    ordering = Ordering()
    ordering.takeover(0, 0, 0)
    ordering.arrive(1, "a")
    ordering.release()
    ordering.cut(1)
    assert ordering.arrive(1, "b") == ()
    assert ordering.holding == 0


def test_what_a_new_owner_knows_is_known_until_as_many_more_were_committed() -> None:
    shard = Ordering(remember=100)
    shard.know(range(1, 1_001))
    shard.takeover(0, 1_000, 0)
    shard.settle_again(shard.done(0, 1_000))
    shard.commit(shard.take(900))
    assert shard.done(0, 1_000) == tuple(range(1, 1_001))
    assert shard.missing(range(1, 1_001)) == []
    shard.commit(shard.take(900))
    for sequence in range(1_001, 1_201):
        shard.arrive(sequence, "a")
        shard.settle(sequence)
        assert shard.settled(sequence)
        shard.commit(shard.take(1))
    assert not shard.settled(1)
    assert all(map(shard.settled, range(1_101, 1_201)))


def test_what_takes_its_turn_and_leaves_before_that_lets_the_others_be() -> None:
    shard = Ordering()
    shard.takeover(0, 0, 0)
    assert shard.arrive(1, "a") == (1,)
    assert shard.arrive(-7, "a") == shard.arrive(2, "a") == ()
    assert shard.leave(-7) == ()
    assert shard.settle(1)
    assert shard.commit(shard.take(9)) == [2]
    shard.arrive(-8, "a")
    shard.leave(-8)
    assert not shard.settle(2)
    shard.hold()
    shard.arrive(-9, "a")
    assert shard.leave(-9) == ()
