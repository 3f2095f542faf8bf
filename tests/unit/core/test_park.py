"""Marks of parked keys: whose turn it is, and what each step leaves."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec import structs

from runner.core.checked import Unfit
from runner.core.failurerecord import FailureRecord
from runner.core.origin import Origin
from runner.core.park import KeyTurn, Letter, Mark, encode, found_parked, parked, read, unmarked


def place(sequence: int, *, stream: str = "ORDERS", time: int | None = None) -> Origin:
    return Origin(stream, sequence, 1_000 + sequence if time is None else time, f"orders.anna.{sequence}")


PARKED = parked(None, place(5), (1,), 1.0, "anna")


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
        (PARKED, place(5, time=9_999), "divert"),
        (PARKED.returning(2.0), place(1, time=1_006), "divert"),
        (parked(None, place(5, time=0), (1,), 1.0, "anna").freed(2.0), place(5), "run"),
    ],
    ids=[
        "later", "itself", "earlier", "later while it returns", "itself while it returns", "later when it is free",
        "itself when it is free", "of another stream", "of the stream made anew", "of the stream as it went back",
        "of the stream as it went back, while it returns", "where the time is not told",
    ],
)  # fmt: skip
def test_whose_turn_it_is_depends_on_the_mark(mark: Mark, message: Origin, turn: KeyTurn) -> None:
    assert mark.turn(message) == turn


def letter(sequence: int, of: int, **fields: Any) -> Letter:
    return Letter(sequence, 5_000 + sequence, of, 1_000 + of, **fields)


def test_what_comes_back_moves_the_place_and_never_backwards() -> None:
    assert PARKED.given_up == place(5)
    mark = PARKED.returning(2.0).taken(9, letter(7, 5)).passed_letter(letter(7, 5))
    assert (mark.through, mark.letter, mark.given_up, mark.letters, mark.epoch) == (place(5), 7, None, (), 9)
    mark = mark.passed(place(6))
    assert (mark.through, mark.letter, mark.given_up) == (place(6), 7, None)
    assert mark.passed(place(4)).through == place(6)
    assert mark.passed(None).through == place(6)


def test_one_that_is_given_up_on_its_way_back_parks_the_rest() -> None:
    mark = PARKED.returning(2.0).passed(place(6)).parked(place(6), 3.0)
    assert (mark.state, mark.through, mark.given_up, mark.since) == ("parked", place(6), place(6), 3.0)


def test_a_key_is_parked_again_without_forgetting_what_is_settled() -> None:
    mark = parked(PARKED.freed(2.0), place(9), (1,), 3.0, "anna")
    assert (mark.state, mark.through) == ("parked", place(9))
    assert parked(mark, place(7), (1,), 4.0, "anna").through == place(9)


def test_a_dead_letter_that_was_settled_is_known_in_the_next_return_too() -> None:
    mark = PARKED.returning(2.0).taken(9, letter(7, 5)).passed_letter(letter(7, 5))
    mark = mark.parked(place(5), 3.0).returning(4.0)
    assert (mark.given_up, mark.letter, mark.since) == (place(5), 7, 4.0)
    assert mark.asked([letter(7, 5)], 5.0).letters == ()
    assert mark.asked([Letter(7, 9_999, 5, 1_005)], 5.0).letters == (Letter(7, 9_999, 5, 1_005),)


def test_the_key_of_another_subject_is_read_as_the_function_reads_it() -> None:
    assert PARKED.key_of("orders.ben.7") == "ben"
    assert PARKED.key_of("orders") is None


def test_dead_letters_come_back_by_the_place_they_died_at_and_each_once() -> None:
    mark = unmarked("anna", (1,)).asked([letter(9, 3), letter(8, 4)], 2.0)
    assert (mark.state, mark.since, mark.diverts, mark.key) == ("returning", 2.0, True, "anna")
    mark = mark.asked([letter(20, 1, asked=3.0), letter(9, 3), letter(7, 5)], 3.0)
    assert [each.sequence for each in mark.letters] == [20, 9, 8, 7]
    assert mark.since == 2.0
    assert mark.without(letter(9, 3)).letters == (mark.letters[0], *mark.letters[2:])


def test_a_parked_key_stays_so_when_a_dead_letter_is_added_and_a_free_one_without_any_is_free() -> None:
    assert PARKED.asked([letter(9, 3)], 2.0).state == "parked"
    assert PARKED.freed(2.0).asked([], 3.0).state == "free"
    assert PARKED.freed(2.0).asked([letter(9, 3)], 3.0).state == "returning"


def test_a_key_that_only_dead_letters_came_back_to_turns_nothing_away_by_its_place() -> None:
    mark = unmarked("anna", (1,)).asked([letter(9, 3)], 2.0)
    assert [mark.turn(place(each)) for each in (1, 3, 9)] == ["divert"] * 3
    free = mark.passed_letter(letter(9, 3)).freed(3.0)
    assert [free.turn(place(each)) for each in (1, 3, 9)] == ["run"] * 3
    assert not free.worth
    assert PARKED.freed(2.0).worth


@pytest.mark.parametrize("change", ["passed", "passed_letter", "without", "parked", "freed"])
def test_failures_are_of_the_one_that_comes_back_next_and_of_no_other(change: str) -> None:
    mark = PARKED.asked([letter(7, 5)], 2.0).failing(FailureRecord(2, 9.0, 9.0, 7))
    arguments: dict[str, tuple[Any, ...]] = {
        "passed": (place(6),), "passed_letter": (letter(7, 5),), "without": (letter(7, 5),),
        "parked": (place(5), 3.0), "freed": (3.0,),
    }  # fmt: skip
    assert getattr(mark, change)(*arguments[change]).failed is None
    assert mark.asked([letter(8, 6)], 3.0).taken(4).failed == FailureRecord(2, 9.0, 9.0, 7)


def test_a_lost_mark_is_made_from_the_oldest_parked_message_and_turns_nothing_newer_away() -> None:
    mark = found_parked(place(6), "anna", (1,), 2.0)
    assert [mark.turn(place(each)) for each in (4, 5, 6, 7)] == ["ack", "ack", "divert", "divert"]
    assert found_parked(place(1), "anna", (1,), 2.0).through is None


def test_a_skip_waits_for_nothing_and_names_the_dead_letter_that_goes() -> None:
    assert PARKED.waits_behind(place(5))
    assert PARKED.returning(2.0).waits_behind(place(5))
    assert not PARKED.waits_behind(place(5, time=9_999))
    assert not PARKED.returning(2.0).taken(9, letter(7, 5)).waits_behind(place(5))
    mark = PARKED.skipped(letter(7, 5), 2.0)
    assert (mark.state, mark.since, mark.given_up, mark.letter, mark.letter_stored) == (
        "returning", 2.0, None, 7, 5_007,
    )  # fmt: skip
    assert (mark.turn(place(5)), mark.turn(place(6))) == ("ack", "divert")
    assert PARKED.skipped(None, 2.0).letter == 0


def test_where_the_bucket_went_back_what_was_written_since_counts_and_a_skip_too() -> None:
    older = parked(None, place(2), (1,), 0.5, "anna")
    assert PARKED.over(older, later=False, now=3.0) == PARKED
    assert PARKED.over(older.freed(2.0), later=True, now=3.0).state == "free"
    assert PARKED.over(older.returning(2.0), later=True, now=3.0) == PARKED.returning(2.0)
    skipped = PARKED.over(PARKED.skipped(letter(7, 5), 2.0), later=True, now=3.0)
    assert (skipped.state, skipped.has_settled(letter(7, 5))) == ("returning", True)
    asked = PARKED.over(older.asked([letter(9, 4)], 2.0), later=False, now=3.0)
    assert (asked.state, asked.letters) == ("parked", (letter(9, 4),))


@pytest.mark.parametrize(
    "value",
    [
        b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b"3",
        b'{"state":"gone","since":1,"through":null,"positions":[1]}',
        b'{"state":"parked","since":1e400,"through":null,"positions":[1]}',
        b'{"state":"parked","since":-1,"through":null,"positions":[1]}',
        b'{"state":"parked","since":1,"through":null,"positions":[-1]}',
        b'{"state":"parked","since":1,"through":{"stream":"S"},"positions":[1]}',
        b'{"state":"parked","since":1,"through":null,"positions":[1],"letters":[[1]]}',
        b'{"state":"parked","since":1,"through":null,"positions":[1],"failed":{"count":-1}}',
    ],
)  # fmt: skip
def test_what_is_no_mark_is_refused(value: bytes) -> None:
    with pytest.raises(Unfit):
        read(value)


def test_a_mark_of_an_earlier_release_is_read() -> None:
    value = b"""{"state":"returning","since":1.5,"positions":[1],"letter":7,"epoch":3,"through":
        {"stream":"ORDERS","sequence":5,"timestamp_ns":1005,"subject":"orders.anna.5"}}"""
    mark = read(value)
    assert (mark.state, mark.through, mark.letter, mark.key, mark.letters) == (
        "returning", place(5), 7, "anna", (),
    )  # fmt: skip
    assert mark.has_settled(letter(7, 5))


@pytest.mark.parametrize(
    "name", ["anna", "k" * 3_000, "*", "a\x1b]52;c;x\x07", "a\u00a0b", "\udcff\udcfe", "größe"]
)
def test_a_mark_is_read_as_it_was_written_whatever_its_key(name: str) -> None:
    origin = Origin("ORDERS", 5, 1_005, f"orders.{name}.5")
    mark = (
        parked(None, origin, (1,), 1.5, name).asked([letter(7, 5, asked=2.0)], 2.0).failing(FailureRecord(1))
    )
    assert read(encode(mark)) == mark
    assert read(encode(unmarked(name, (1,)))).key == name


@pytest.mark.parametrize(
    "mark",
    [
        parked(None, Origin("OR DERS", 5, 1_005, "orders.anna.5"), (1,), 1.5, "anna"),
        parked(None, Origin("ORDERS", 1 << 63, 1_005, "orders.anna.5"), (1,), 1.5, "anna"),
        parked(None, Origin("ORDERS", 5, -1, "orders.anna.5"), (1,), 1.5, "anna"),
        parked(None, place(5), (-1,), 1.5, "anna"),
        parked(None, place(5), (1,), 1.5, "\ud800"),
        parked(None, place(5), (1,), math.inf, "anna"),
        unmarked("", (1,)),
        PARKED.asked([letter(7, 1 << 63)], 2.0),
        PARKED.asked([structs.replace(letter(7, 5), headers=(("traceparent", "a\x1b"),))], 2.0),
        PARKED.asked([structs.replace(letter(7, 5), headers=(("traceparent", "\udcff"),))], 2.0),
    ],
)
def test_a_mark_that_nobody_could_read_is_not_written(mark: Mark) -> None:
    with pytest.raises(Unfit):
        encode(mark)
