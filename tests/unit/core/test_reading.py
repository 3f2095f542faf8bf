"""What becomes of a durable whose function has another subject by now."""

from __future__ import annotations

import pytest

from runner.core.reading import Narrow, Place, Read, Refuse, Replace, Step, Wait, Widen, beside, decide

NARROW, WIDE, OTHER = "jobs.a.*", "jobs.*.*", "orders.*"


@pytest.mark.parametrize(
    ("wanted", "main", "others", "step"),
    [
        (NARROW, NARROW, {}, Read()),
        (NARROW, NARROW, {"x": WIDE}, Read()),
        (NARROW, NARROW, {"x": OTHER}, Read()),  # it was here first
        (WIDE, NARROW, {}, Widen()),
        (WIDE, NARROW, {"x": NARROW}, Widen()),
        (WIDE, NARROW, {"x": NARROW, "y": WIDE}, Widen()),
        (NARROW, WIDE, {}, Narrow()),
        (NARROW, WIDE, {"x": NARROW}, Narrow()),
        (NARROW, WIDE, {"x": NARROW, "y": WIDE}, Wait("y", WIDE)),
        (NARROW, WIDE, {"y": OTHER}, Refuse("y", OTHER)),
        (OTHER, NARROW, {}, Replace()),
        (OTHER, NARROW, {"x": NARROW}, Refuse("x", NARROW)),
        ("jobs.*.b", NARROW, {"x": NARROW}, Refuse("x", NARROW)),
        ("jobs.*.b", NARROW, {}, Replace()),
    ],
)
def test_each_difference_has_one_step(wanted: str, main: str, others: dict[str, str], step: Step) -> None:
    assert decide(wanted, main, others) == step


@pytest.mark.parametrize(
    ("wanted", "main", "others", "step"),
    [
        (WIDE, NARROW, {}, Replace()),
        (WIDE, NARROW, {"x": NARROW}, Wait("x", NARROW)),
        (NARROW, WIDE, {"x": NARROW}, Replace()),
        (NARROW, WIDE, {"y": WIDE}, Wait("y", WIDE)),
    ],
)
def test_a_work_queue_has_no_durable_beside_another(
    wanted: str, main: str, others: dict[str, str], step: Step
) -> None:
    assert decide(wanted, main, {k: v for k, v in others.items() if v != wanted}, apart=True) == step


def test_what_a_subject_has_gained_is_read_beside_what_it_had() -> None:
    main, first, second = Place("m", NARROW), Place("m-1", WIDE, (NARROW,)), Place("m-2", "jobs.>")
    assert beside(NARROW, main, [first]) == ((), None)
    assert beside(WIDE, main, []) == ((), Place("", WIDE, (NARROW,)))
    assert beside(WIDE, main, [first, second]) == ((first,), None)
    assert beside("jobs.>", main, [first]) == ((first,), Place("", "jobs.>", (NARROW, WIDE)))
