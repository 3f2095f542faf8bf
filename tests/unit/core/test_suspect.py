"""Suspects: how a message starts that may have killed its process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.checked import Unfit
from runner.core.settlement import Crashed
from runner.core.suspect import (
    ALONE,
    FREE,
    RECORDED,
    SOLO,
    Record,
    Run,
    Start,
    Step,
    may_start,
    next_step,
    read,
)


def record(*starts: tuple[str, int]) -> Record:
    return Record(7, tuple(Start(instance, stage) for instance, stage in starts))


@pytest.mark.parametrize(
    ("starts", "gone", "expected"),
    [
        ([], "", Run(RECORDED)),
        ([("a", 1)], "a", Run(SOLO)),
        ([("a", 1), ("b", 2)], "ab", Run(ALONE)),
        ([("a", 1), ("b", 2), ("c", 3)], "abc", Crashed(3)),
        ([("a", 1), ("b", 2), ("c", 3), ("d", 3)], "abcd", Crashed(4)),
        # Who lives has lost the message, or its connection.
        ([("a", 1)], "", Run(RECORDED)),
        ([("a", 1), ("b", 2)], "b", Run(ALONE)),
        ([("a", 1), ("b", 2), ("c", 3)], "ab", Run(ALONE)),
        ([("a", 1), ("b", 2), ("c", 3)], "bc", Run(ALONE)),
        ([("a", 1), ("b", 2), ("c", 3)], "", Run(RECORDED)),
        # Nothing died alone.
        ([("a", 1), ("b", 1), ("c", 1)], "abc", Run(SOLO)),
        ([("a", 1), ("b", 2), ("c", 1), ("d", 2)], "abcd", Run(ALONE)),
        # Of processes without a name it is not known whether they died.
        ([("", 2)], "", Run(ALONE)),
        ([("", 3)], "", Run(ALONE)),
        ([("", 3), ("a", 3), ("b", 3)], "ab", Run(ALONE)),
        ([("", 3), ("a", 3), ("b", 3), ("c", 3)], "abc", Crashed(3)),
    ],
)
def test_every_start_after_a_death_is_lonelier(
    starts: list[tuple[str, int]], gone: str, expected: Step
) -> None:
    assert next_step(record(*starts), set(gone)) == expected


def test_a_process_dies_once() -> None:
    twice = record(("a", 2), ("b", 1)).started(Start("a", 3))
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
    assert read(record(("a", 3)).encode(), 8) == Record(8)


@pytest.mark.parametrize(
    ("digit", "starts"), [(b"0", []), (b"1", [("", 1)]), (b"3", [("", 3)]), (b"9", [("", 3)])]
)
def test_records_of_earlier_versions_are_read(digit: bytes, starts: list[tuple[str, int]]) -> None:
    found = read(digit, 7)
    assert found == record(*starts)
    assert read(found.started(Start("a", 3)).encode(), 7).starts[: len(starts)] == found.starts


@pytest.mark.parametrize("nothing", [None, b""])
def test_no_record_is_one_of_no_starts(nothing: bytes | None) -> None:
    assert read(nothing, 7) == Record(7)


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
    ("stage", "running", "suspects", "highest", "expected"),
    [
        (FREE, 0, 0, 0, True),
        (FREE, 63, 0, 0, True),
        (FREE, 9, 1, SOLO, True),
        (FREE, 1, 1, ALONE, False),
        (RECORDED, 9, 5, RECORDED, True),
        (RECORDED, 9, 1, SOLO, False),
        (RECORDED, 1, 1, ALONE, False),
        (SOLO, 9, 0, 0, True),
        (SOLO, 9, 1, RECORDED, False),
        (SOLO, 9, 1, SOLO, False),
        (ALONE, 0, 0, 0, True),
        (ALONE, 1, 0, 0, False),
        (ALONE, 1, 1, ALONE, False),
    ],
)
def test_a_suspect_keeps_the_company_of_its_stage(
    stage: int, running: int, suspects: int, highest: int, *, expected: bool
) -> None:
    assert may_start(stage, running=running, suspects=suspects, highest=highest) is expected
