"""The server's clock, read from its answers."""

from __future__ import annotations

import pytest

from runner.core.serverclock import ClockReading, read, surer


def test_an_answer_tells_a_time_between_question_and_arrival() -> None:
    assert read(1_000.0, asked=10.0, arrived=10.5) == ClockReading(ahead=989.75, doubt=0.25, taken=10.5)


@pytest.mark.parametrize(
    ("known", "found", "chosen"),
    [
        (None, ClockReading(5.0, 9.0, 0.0), "found"),
        (ClockReading(5.0, 0.01, 0.0), ClockReading(5.001, 0.001, 1.0), "found"),  # the surer one
        (ClockReading(5.0, 0.01, 0.0), ClockReading(5.1, 0.2, 1.0), "known"),  # a slow answer that agrees
        (
            ClockReading(5.0, 0.01, 0.0),
            ClockReading(5.1, 0.2, 500.0),
            "found",
        ),  # by then the old one is less sure
        (ClockReading(5.0, 0.01, 0.0), ClockReading(605.0, 0.2, 1.0), "found"),  # the server's clock was set
        (ClockReading(605.0, 0.01, 0.0), ClockReading(5.0, 0.2, 1.0), "found"),
    ],
)
def test_the_surer_reading_is_taken_unless_a_new_one_contradicts_it(
    known: ClockReading | None, found: ClockReading, chosen: str
) -> None:
    assert surer(known, found) is (found if chosen == "found" else known)
