"""Outputs sorted into batches."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from runner.core.batch import LARGEST, Batch, plan


def test_outputs_are_numbered_from_0_within_their_stream() -> None:
    batches = plan([("A", "a0"), ("B", "b0"), ("A", "a1")])
    assert batches == [Batch("A", 0, ("a0", "a1")), Batch("B", 0, ("b0",))]
    assert [list(batch.numbered()) for batch in batches] == [[(0, "a0"), (1, "a1")], [(0, "b0")]]
    assert [batch.atomic for batch in batches] == [True, False]


def test_more_than_the_server_takes_at_once_goes_in_chunks_numbered_on() -> None:
    batches = plan([("A", number) for number in range(LARGEST * 2 + 1)])
    assert [(batch.first, len(batch.outputs), batch.atomic) for batch in batches] == [
        (0, LARGEST, True),
        (LARGEST, LARGEST, True),
        (LARGEST * 2, 1, False),
    ]
    assert all(number == output for batch in batches for number, output in batch.numbered())


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers())))
def test_every_output_is_planned_once_in_the_order_it_was_made(outputs: list[tuple[str, int]]) -> None:
    planned = [(batch.stream, output) for batch in plan(outputs) for output in batch.outputs]
    assert Counter(planned) == Counter(outputs)
    for stream in "ABC":
        assert [each for each in planned if each[0] == stream] == [
            each for each in outputs if each[0] == stream
        ]
