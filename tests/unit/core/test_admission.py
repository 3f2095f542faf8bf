from __future__ import annotations

import pytest

from runner.core.admission import FIRST, FORGET_SECONDS, MOST, WaitingRoom, left


def test_before_anything_was_measured_a_thousand_wait() -> None:
    assert WaitingRoom(64, 0.0).places == FIRST
    assert WaitingRoom(2_000, 0.0).places == 2_000
    assert WaitingRoom(10_000, 0.0).places == MOST


def test_as_many_wait_as_were_completed_in_a_tenth_of_a_second_while_requests_waited() -> None:
    room = WaitingRoom(64, 0.0)
    room.idle = False
    room.look(0.05, 100)
    assert room.places == FIRST, "it is not time yet"
    room.look(0.5, 1_250)
    assert room.places == 250
    room.idle = False
    room.look(1.0, 1_300)
    assert room.places == 64, "as many as run at once, at least"
    room.idle = False
    room.look(1.5, 1_300 + 100_000)
    assert room.places == MOST


def test_of_a_function_that_completes_nothing_more_only_as_many_wait_as_run() -> None:
    room = WaitingRoom(3, 0.0)
    room.idle = False
    room.look(1.0, 0)
    assert room.places == FIRST, "nothing is known of it yet"
    room.idle = False
    room.look(2.0, 1)
    assert room.places == 3
    room.idle = False
    room.look(3.0, 1)
    assert room.places == 3


def test_an_idle_time_is_a_lower_bound_and_what_was_measured_is_forgotten() -> None:
    room = WaitingRoom(64, 0.0)
    room.idle = False
    room.look(0.5, 1_000)
    assert room.places == 200
    room.look(1.0, 1_005)
    assert room.places == 200, "it completed five since no more came"
    room.look(1.5, 2_505)
    assert room.places == 300, "it can do this much, too"
    room.look(2.0, 2_505)
    assert room.places == 200
    room.look(2.0 + FORGET_SECONDS, 2_505)
    assert room.places == FIRST


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1500", 1.5), (b" 20\t", 0.02), (b"0", 0.0), (b"-7", 0.0), (b"1500.9", 1.5), (b"007", 0.007),
        (b"", None), (b"soon", None), (b"1e3", None), (b"1_0", None), (b"+5", None), (b"--5", None), (b"5 5", None),
        (b"9" * 15, 999_999_999_999.999), (b"9" * 16, None), (b"\xff", None), ("٣".encode(), None),
    ],
)  # fmt: skip
def test_a_deadline_is_milliseconds_or_nothing(text: bytes, seconds: float | None) -> None:
    assert left(text) == seconds
