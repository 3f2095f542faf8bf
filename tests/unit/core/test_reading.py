"""What becomes of a durable whose function has another subject by now."""

from __future__ import annotations

import pytest

from runner.core.reading import (
    Durable,
    Narrow,
    ReadAsIs,
    ReadingStep,
    Refuse,
    Replace,
    WaitForInstance,
    Widen,
    beside,
    decide,
    excluded,
    progress,
)
from runner.core.subject import covers

NARROW, WIDE, OTHER = "jobs.a.*", "jobs.*.*", "orders.*"


@pytest.mark.parametrize(
    ("wanted", "main", "others", "step"),
    [
        (NARROW, NARROW, {}, ReadAsIs()),
        (NARROW, NARROW, {"x": WIDE}, ReadAsIs()),
        (NARROW, NARROW, {"x": OTHER}, ReadAsIs()),  # it was here first
        (WIDE, NARROW, {}, Widen()),
        (WIDE, NARROW, {"x": NARROW}, Widen()),
        (WIDE, NARROW, {"x": NARROW, "y": WIDE}, Widen()),
        (NARROW, WIDE, {}, Narrow()),
        (NARROW, WIDE, {"x": NARROW}, Narrow()),
        (NARROW, WIDE, {"x": NARROW, "y": WIDE}, WaitForInstance("y", WIDE)),
        (NARROW, WIDE, {"y": OTHER}, Refuse("y", OTHER)),
        (OTHER, NARROW, {}, Replace()),
        (OTHER, NARROW, {"x": NARROW}, Refuse("x", NARROW)),
        ("jobs.*.b", NARROW, {"x": NARROW}, Refuse("x", NARROW)),
        ("jobs.*.b", NARROW, {}, Replace()),
    ],
)
def test_each_difference_has_one_step(
    wanted: str, main: str, others: dict[str, str], step: ReadingStep
) -> None:
    assert decide(wanted, main, others) == step


@pytest.mark.parametrize(
    ("wanted", "main", "others", "step"),
    [
        (WIDE, NARROW, {}, Replace()),
        (WIDE, NARROW, {"x": NARROW}, WaitForInstance("x", NARROW)),
        (NARROW, WIDE, {"x": NARROW}, Replace()),
        (NARROW, WIDE, {"y": WIDE}, WaitForInstance("y", WIDE)),
    ],
)
def test_a_work_queue_has_no_durable_beside_another(
    wanted: str, main: str, others: dict[str, str], step: ReadingStep
) -> None:
    assert decide(wanted, main, {k: v for k, v in others.items() if v != wanted}, apart=True) == step


def test_what_a_subject_has_gained_is_read_beside_what_it_had() -> None:
    main, first, second = (
        Durable("m", NARROW),
        Durable("m-1", WIDE),
        Durable("m-2", "jobs.>"),
    )
    assert beside(NARROW, main, [first]) == ((), None)
    assert beside(WIDE, main, []) == ((), Durable("", WIDE))
    assert beside(WIDE, main, [first, second]) == ((first,), None)
    assert beside("jobs.>", main, [first]) == ((first,), Durable("", "jobs.>"))


@pytest.mark.parametrize(
    ("main", "subjects"),
    [
        (NARROW, [WIDE]),
        ("jobs.b.*", [WIDE, NARROW]),
        ("jobs.b.*", ["jobs.>", WIDE, NARROW, "jobs.*.x"]),
        (NARROW, ["jobs.*.x", "jobs.y.*", "jobs.>"]),
    ],
)
def test_exactly_one_durable_runs_each_message(main: str, subjects: list[str]) -> None:
    first = Durable("m", main)
    ours = tuple(Durable(f"m-{number}", subject) for number, subject in enumerate(subjects))
    for message in ("jobs.a.x", "jobs.a.z", "jobs.b.x", "jobs.b.z", "jobs.y.x", "jobs.c.z", "jobs.q"):
        runs = [place for place in (first, *ours) if covers(place.subject, message)]
        read = [
            place
            for place in runs
            if place == first or not any(covers(each, message) for each in excluded(place, first, ours))
        ]
        assert len(read) == bool(runs), message


def test_a_subject_goes_on_where_a_durable_has_read_all_of_it() -> None:
    wide, narrow, crossing = (
        Durable("m-1", WIDE),
        Durable("m-2", NARROW),
        Durable("m-3", "jobs.*.x"),
    )
    assert progress("jobs.b.*", {}) is None
    assert progress("jobs.b.*", {narrow: 9}) is None
    assert progress("jobs.b.*", {wide: 7, narrow: 9}) == 7
    assert progress(NARROW, {wide: 7, narrow: 9}) == 9
    assert progress(WIDE, {wide: 7, narrow: 5}) == 5  # the wide one has left what the narrow one reads
    assert progress("jobs.b.*", {wide: 7, crossing: 3}) == 3
