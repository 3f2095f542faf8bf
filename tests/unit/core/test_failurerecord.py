"""What is on record of a message that has failed."""

from __future__ import annotations

import msgspec
import pytest

from runner.core.failurerecord import FailureRecord, once_more, read

STORED = 1_700_000_000_000_000_000


def test_each_failure_counts_one_and_says_when_the_message_runs_again() -> None:
    first = once_more(None, 90.0, 1_000.0, STORED)
    assert first == FailureRecord(1, 1_090.0, 90.0, STORED)
    assert once_more(first, 0.5, 1_100.0, STORED) == FailureRecord(2, 1_100.5, 0.5, STORED)


@pytest.mark.parametrize(
    ("now", "rest"),
    [(1_000.0, 90.0), (1_060.0, 30.0), (1_090.0, 0.0), (5_000.0, 0.0), (0.0, 90.0), (-1e9, 90.0)],
    ids=[
        "at once",
        "later",
        "when it is due",
        "long after",
        "by a clock that is late",
        "by one that is far off",
    ],
)
def test_what_is_left_of_a_delay_is_never_more_than_was_asked_for(now: float, rest: float) -> None:
    assert FailureRecord(1, 1_090.0, 90.0).rest(now) == rest


def test_it_is_about_the_message_that_was_stored_then() -> None:
    failed = FailureRecord(1, message=STORED)
    assert failed.is_about(STORED)
    assert not failed.is_about(STORED + 1)
    assert FailureRecord(1).is_about(STORED)


@pytest.mark.parametrize("failed", [FailureRecord(1), FailureRecord(3, 1_090.5, 90.0, STORED)])
def test_it_is_read_as_it_was_written(failed: FailureRecord) -> None:
    assert read(msgspec.json.encode(failed)) == failed


@pytest.mark.parametrize(("value", "count"), [(b"1", 1), (b"12", 12)])
def test_a_number_of_an_earlier_release_is_read(value: bytes, count: int) -> None:
    assert read(value) == FailureRecord(count)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"0", b"-1", b"1" * 40, "٣".encode(), b"\xff", b"null", b"{}", b"[" * 100_000, b'{"count":0}', b'{"count":-2}',
        b'{"count":2.5}', b'{"count":1,"due":1e999}', b'{"count":1,"delay":-1}', b'{"count":1,"message":"a"}',
    ],
)  # fmt: skip
def test_what_is_no_record_is_none(value: bytes) -> None:
    assert read(value) is None


@pytest.mark.parametrize(
    ("other", "holds"),
    [
        (FailureRecord(2, 5.0, 1.0, 7), True),
        (FailureRecord(3, 9.0, 1.0, 7), True),
        (FailureRecord(2, 6.0, 1.0, 7), False),
        (FailureRecord(1, 5.0, 1.0, 7), False),
        (FailureRecord(3, 9.0, 1.0, 8), False),
        (None, False),
    ],
)
def test_a_record_is_held_by_its_equal_and_by_one_of_more_failures_of_its_message(
    other: FailureRecord | None, *, holds: bool
) -> None:
    assert FailureRecord(2, 5.0, 1.0, 7).is_counted_in(other) is holds
