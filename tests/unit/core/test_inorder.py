"""What becomes of an ordered batch: how it is divided by what fails in it, and searched for what makes all of it fail."""

from __future__ import annotations

from collections import deque
from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from runner.core.inorder import Narrowing, after_failure, after_success, divide

KEYS = st.lists(st.sampled_from("abc"), max_size=12)


@given(KEYS, st.data())
def test_each_message_is_before_first_or_behind_and_they_stay_in_order(
    keys: list[str], data: st.DataObject
) -> None:
    marked = data.draw(st.sets(st.integers(0, max(0, len(keys) - 1))))
    division = divide(keys, marked)
    for part in (division.before, division.first, division.behind):
        assert part == sorted(part)
    assert sorted([*division.before, *division.first, *division.behind]) == [*range(len(keys))]
    for key in set(keys):
        places = [at for at, each in enumerate(keys) if each == key]
        failed = next((at for at in places if at in marked), len(keys))
        assert [at for at in division.before if keys[at] == key] == [at for at in places if at < failed]
        assert [at for at in division.first if keys[at] == key] == [at for at in places if at == failed]
        assert [at for at in division.behind if keys[at] == key] == [at for at in places if at > failed]


def search(count: int, most: int, poison: set[int]) -> tuple[list[int], int]:
    """Work off so many messages of one key, from 1 on, of which some make any batch fail: their order, and the calls."""
    waiting, done, calls = deque(range(1, count + 1)), list[int](), 0
    narrowing: Narrowing | None = None
    while waiting:
        batch = [*waiting][: narrowing.size if narrowing else most]
        calls += 1
        if poison.isdisjoint(batch):
            narrowing = narrowing and after_success(narrowing, batch, most)
        elif len(batch) > 1:
            narrowing = after_failure(batch)
            continue
        else:
            narrowing = after_failure(batch)
        for sequence in batch:
            assert waiting.popleft() == sequence
            done.append(sequence)
    return done, calls


@given(st.integers(1, 300), st.sampled_from([1, 2, 10, 64, 500]), st.data())
def test_what_fails_is_alone_in_the_end_and_the_others_go_on_in_order(
    count: int, most: int, data: st.DataObject
) -> None:
    poison = data.draw(st.sets(st.integers(1, count), max_size=4))
    done, calls = search(count, most, poison)
    assert done == [*range(1, count + 1)]
    each = 2 * ceil(log2(most)) + 2 if most > 1 else 0
    assert calls <= ceil(count / most) + len(poison) * 2 * (each + 1)


def test_one_that_fails_costs_some_twenty_calls_more_and_batches_grow_again() -> None:
    assert search(500, 500, set())[1] == 1
    assert search(5_000, 500, set())[1] == 10
    assert search(500, 500, {1})[1] <= 10 + 9
    assert search(5_000, 500, {250})[1] <= 10 + 23


def test_batches_are_of_full_size_again_once_what_failed_has_passed() -> None:
    narrowing = after_failure([*range(1, 11)])
    assert narrowing == Narrowing(5, 10)
    after = after_success(narrowing, [1, 2, 3, 4, 5], 10)
    assert after == Narrowing(2, 10)
    assert after_success(Narrowing(1, 10), [10], 10) is None
    assert after_success(Narrowing(4, 0), [11, 12, 13, 14], 10) == Narrowing(8, 0)
    assert after_success(Narrowing(8, 0), [*range(15, 23)], 10) is None
