"""How many messages may wait beside those that run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.core import budget
from runner.core.ahead import MOST, MOST_BYTES, PAUSE_SECONDS, SECONDS, Ahead

PART = 200_000


def fast(ahead: Ahead, *, each: int = 100, windows: int = 3, began: float = 100.0) -> float:
    """Complete so many messages in each half of a window; the time after that."""
    now = began
    ahead.learn(100)
    for _ in range(windows * 2):
        ahead.look(now, 0, PART, 64)
        ahead.held += each
        now += SECONDS / 2
    ahead.look(now, 0, PART, 64)
    return now


def test_a_function_has_as_many_as_it_has_completed_in_20_ms() -> None:
    ahead = Ahead(MOST)
    fast(ahead)
    assert ahead.messages in (199, 200)


def test_one_that_completes_less_than_one_in_20_ms_has_none() -> None:
    ahead = Ahead(MOST)
    ahead.learn(100)
    for second in range(5):
        assert ahead.look(100.0 + second, second % 2, PART, 64) == 0


def test_one_that_has_become_slow_has_none_after_the_next_look() -> None:
    ahead = Ahead(MOST)
    now = fast(ahead)
    ahead.held = 264
    assert ahead.look(now + 10, 264, PART, 64) == 0


def test_there_is_none_before_the_first_message_has_told_its_size_and_none_where_none_is_wanted() -> None:
    ahead = Ahead(MOST)
    for turn in range(10):
        ahead.held = 1_000
        assert ahead.look(100.0 + turn * SECONDS, 0, PART, 64) == 0
    none = Ahead()
    fast(none)
    assert none.messages == 0


def test_a_message_larger_than_what_was_left_stops_it_for_a_second_however_often_it_is_told() -> None:
    ahead = Ahead(MOST)
    now = fast(ahead)
    for _ in range(100):
        ahead.pause()
    assert ahead.look(now, 0, PART, 64) == 0
    fast(ahead, began=now + SECONDS, windows=2)
    assert ahead.messages == 0
    fast(ahead, began=now + PAUSE_SECONDS + SECONDS)
    assert ahead.messages > 0


@given(
    st.integers(1, 1_000_000), st.integers(1, 20_000), st.integers(budget.OVERHEAD, 16 << 20), st.integers(1, 4_096)
)  # fmt: skip
def test_it_never_asks_for_more_bytes_than_the_slots_have_nor_for_more_than_8_mib(
    size: int, each: int, part: int, limit: int
) -> None:
    ahead = Ahead(MOST)
    now = 100.0
    for _ in range(6):
        ahead.learn(size)
        messages = ahead.look(now, 0, part, limit)
        ahead.held += each
        now += SECONDS
        assert 0 <= messages <= MOST
        assert (limit + messages) * ahead.part(part, limit) <= limit * part
        if messages:
            assert messages * size <= MOST_BYTES
            assert ahead.part(part, limit) >= 2 * size, "one message of twice the size fits into what is left"
