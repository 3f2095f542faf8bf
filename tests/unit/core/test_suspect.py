"""Suspects: how a message starts that may have killed its process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.checked import Unfit
from runner.core.poison import (
    ALONE,
    CELL,
    FREE,
    RECORDED,
    PoisonStep,
    Run,
    Start,
    StartRecord,
    may_start,
    next_step,
    read,
)
from runner.core.settlement import Crashed


def record(*starts: tuple[str, int]) -> StartRecord:
    """A start whose name begins with `!` is a cell's death that was seen."""
    return StartRecord(
        7, tuple(Start(name.removeprefix("!"), stage, seen=name.startswith("!")) for name, stage in starts)
    )


@pytest.mark.parametrize(
    ("starts", "gone", "expected"),
    [
        ([], "", Run(RECORDED)),
        ([("a", 1)], "a", Run(CELL)),
        ([("a", 1), ("!c", 2)], "a", Run(CELL)),
        ([("a", 1), ("!c", 2), ("!d", 2)], "a", Crashed(3)),
        # What a living process has seen needs nobody else to be gone.
        ([("a", 1), ("!c", 2), ("!d", 2)], "", Crashed(2)),
        ([("!c", 2)], "", Run(CELL)),
        # Who lives has lost the message, or its connection.
        ([("a", 1)], "", Run(RECORDED)),
        ([("a", 1), ("b", 2)], "b", Run(CELL)),
        ([("a", 1), ("b", 3), ("c", 3)], "ab", Run(ALONE)),
        ([("a", 1), ("b", 2), ("c", 3)], "", Run(RECORDED)),
        # Whole processes died, with whatever was in them: it may have been done from outside.
        ([("a", 1), ("b", 2), ("c", 2)], "abc", Run(CELL)),
        ([("a", 1), ("b", 2), ("c", 2), ("d", 2)], "abcd", Run(CELL)),
        ([("a", 1), ("b", 2), ("c", 2), ("d", 2), ("e", 2)], "abcde", Run(ALONE)),
        ([("a", 1), ("b", 2), ("c", 2), ("d", 2), ("e", 2), ("f", 3)], "abcdef", Run(ALONE)),
        ([("a", 1), ("b", 2), ("c", 2), ("d", 2), ("e", 2), ("f", 3), ("g", 3)], "abcdefg", Crashed(7)),
        # There were no cells to be had.
        ([("a", 1), ("b", 3)], "ab", Run(ALONE)),
        ([("a", 1), ("b", 3), ("c", 3)], "abc", Crashed(3)),
        ([("b", 3), ("c", 3)], "bc", Run(ALONE)),
        # Of processes without a name it is not known whether they died.
        ([("", 1)], "", Run(CELL)),
        ([("", 2)], "", Run(ALONE)),
        ([("", 3)], "", Run(ALONE)),
        ([("", 3), ("a", 3)], "a", Run(ALONE)),
        ([("", 3), ("a", 3), ("b", 3)], "ab", Run(ALONE)),
        ([("", 3), ("a", 3), ("b", 3), ("c", 3)], "abc", Crashed(3)),
    ],
)
def test_what_died_with_a_message_decides_where_it_starts(
    starts: list[tuple[str, int]], gone: str, expected: PoisonStep
) -> None:
    assert next_step(record(*starts), set(gone)) == expected


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 3)), max_size=8, unique_by=lambda s: s[0])
)
def test_no_number_of_deaths_found_later_convicts_what_did_not_die_alone(
    starts: list[tuple[str, int]],
) -> None:
    step = next_step(record(*starts), set("abcdefgh"))
    alone = [stage for _, stage in starts if stage == ALONE]
    assert not isinstance(step, Crashed) or len(alone) >= 2


def test_a_process_dies_once() -> None:
    twice = record(("a", 3), ("b", 1)).started(Start("a", 3))
    assert twice == record(("b", 1), ("a", 3))
    assert next_step(twice, {"a", "b"}) == Run(ALONE)
    assert twice.without("a") == record(("b", 1))


def test_a_record_keeps_the_latest_starts() -> None:
    found = record()
    for number in range(20):
        found = found.started(Start(f"p{number}", RECORDED))
    assert [start.instance for start in found.starts] == [f"p{number}" for number in range(12, 20)]
    assert read(found.encode(), 7) == found


def test_a_record_of_another_message_of_the_same_number_says_nothing() -> None:
    assert read(record(("a", 3)).encode(), 8) == StartRecord(8)


@pytest.mark.parametrize(
    ("digit", "starts"), [(b"0", []), (b"1", [("", 1)]), (b"3", [("", 3)]), (b"9", [("", 3)])]
)
def test_records_of_earlier_versions_are_read(digit: bytes, starts: list[tuple[str, int]]) -> None:
    found = read(digit, 7)
    assert found == record(*starts)
    assert read(found.started(Start("a", 3)).encode(), 7).starts[: len(starts)] == found.starts


@pytest.mark.parametrize("nothing", [None, b""])
def test_no_record_is_one_of_no_starts(nothing: bytes | None) -> None:
    assert read(nothing, 7) == StartRecord(7)


@pytest.mark.parametrize(
    "value",
    [
        b"33",
        b"-1",
        b"three",
        b"{}",
        b"[]",
        b"null",
        b'"3"',
        b"\xff\xfe",
        b'{"stored": 7, "starts": 3}',
        b'{"stored": "7"}',
        b'{"stored": -1}',
        b'{"stored": 7, "starts": [{"instance": "a"}]}',
        b'{"stored": 7, "starts": [{"instance": "a", "stage": 0}]}',
        b'{"stored": 7, "starts": [{"instance": "a", "stage": 4}]}',
        b'{"stored": 7, "starts": [{"instance": "a", "stage": true}]}',
        b'{"stored": 7, "starts": [{"instance": "a b", "stage": 1}]}',
        b'{"stored": 7, "starts": [{"instance": "a.>", "stage": 1}]}',
        b'{"stored": 7, "starts": [{"instance": "a\\r\\nPUB x 0\\r\\n\\r\\n", "stage": 1}]}',
        b'{"stored": 7, "starts": [{"instance": "a\\n", "stage": 1}]}',
        b'{"stored": 7, "starts": [' + b",".join([b'{"instance": "a", "stage": 1}'] * 9) + b"]}",
        b'{"stored": 7, "x": ' + b"[" * 4000 + b"]" * 70 + b"}",
        b" " * 5000,
    ],
)
def test_what_is_no_record_is_refused(value: bytes) -> None:
    with pytest.raises(Unfit):
        read(value, 7)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_no_value_does_harm(value: bytes) -> None:
    try:
        found = read(value, 7)
    except Unfit:
        return
    assert next_step(found, set()) != Crashed(3)


@pytest.mark.parametrize(
    ("stage", "running", "highest", "expected"),
    [
        (FREE, 0, FREE, True),
        (FREE, 63, RECORDED, True),
        (FREE, 1, ALONE, False),
        (RECORDED, 9, RECORDED, True),
        (RECORDED, 1, ALONE, False),
        (ALONE, 0, FREE, True),
        (ALONE, 1, FREE, False),
        (ALONE, 1, ALONE, False),
    ],
)
def test_what_must_be_alone_is(stage: int, running: int, highest: int, *, expected: bool) -> None:
    assert may_start(stage, running=running, highest=highest) is expected
