"""Marks of parked keys: whose turn it is, and what each step leaves."""

from __future__ import annotations

import pytest

from runner.core.origin import Origin
from runner.core.park import Mark, Turn, parked


def place(sequence: int, *, stream: str = "ORDERS", time: int | None = None) -> Origin:
    return Origin(stream, sequence, 1_000 + sequence if time is None else time, f"orders.anna.{sequence}")


PARKED = parked(None, place(5), (1,), 1.0)


@pytest.mark.parametrize(
    ("mark", "message", "turn"),
    [
        (PARKED, place(6), "divert"),
        (PARKED, place(5), "ack"),
        (PARKED, place(4), "ack"),
        (PARKED.returning(2.0), place(6), "divert"),
        (PARKED.returning(2.0), place(5), "ack"),
        (PARKED.freed(2.0), place(6), "run"),
        (PARKED.freed(2.0), place(5), "ack"),
        (PARKED, place(4, stream="OTHER"), "divert"),
        (PARKED.freed(2.0), place(4, time=9_999), "run"),
    ],
    ids=[
        "later", "itself", "earlier", "later while it returns", "itself while it returns", "later when it is free",
        "itself when it is free", "of another stream", "of the stream made anew",
    ],
)  # fmt: skip
def test_whose_turn_it_is_depends_on_the_mark(mark: Mark, message: Origin, turn: Turn) -> None:
    assert mark.turn(message) == turn


def test_what_comes_back_moves_the_place_and_never_backwards() -> None:
    assert PARKED.given_up == place(5)
    mark = PARKED.returning(2.0).passed(place(5), letter=7)
    assert (mark.through, mark.letter, mark.given_up) == (place(5), 7, None)
    mark = mark.passed(place(6))
    assert (mark.through, mark.letter, mark.given_up) == (place(6), 7, None)
    assert mark.passed(place(4)).through == place(6)


def test_one_that_is_given_up_on_its_way_back_parks_the_rest() -> None:
    mark = PARKED.returning(2.0).passed(place(6)).parked(place(6), 3.0)
    assert (mark.state, mark.through, mark.given_up, mark.since) == ("parked", place(6), place(6), 3.0)


def test_a_key_is_parked_again_without_forgetting_what_is_settled() -> None:
    mark = parked(PARKED.freed(2.0), place(9), (1,), 3.0)
    assert (mark.state, mark.through) == ("parked", place(9))
    assert parked(mark, place(7), (1,), 4.0).through == place(9)


def test_a_dead_letter_that_was_settled_is_known_in_the_next_return_too() -> None:
    mark = PARKED.returning(2.0).passed(place(5), letter=7).parked(place(5), 3.0).returning(4.0)
    assert (mark.given_up, mark.letter, mark.since) == (place(5), 7, 4.0)


def test_the_key_of_another_subject_is_read_as_the_function_reads_it() -> None:
    assert PARKED.key_of("orders.ben.7") == "ben"
    assert PARKED.key_of("orders") is None
