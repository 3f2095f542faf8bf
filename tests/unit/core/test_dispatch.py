from __future__ import annotations

import pytest

from runner.core.dispatch import REMEMBERED, Dispatch, clashes

PATTERNS = {each: each for each in ("a.b", "a.*", "a.>", "a.*.c", "*.b.c", "a.b.>", "z.*.*")}


@pytest.mark.parametrize(
    ("subject", "found"),
    [
        (b"a.b", "a.b"), (b"a.x", "a.*"), (b"a.x.c", "a.*.c"), (b"a.b.c", "a.b.>"), (b"a.b.d", "a.b.>"),
        (b"a.x.y.z", "a.>"), (b"q.b.c", "*.b.c"), (b"z.1.2", "z.*.*"), (b"z.1", None), (b"a", None), (b"", None),
        (b"a.\xff", "a.*"),
    ],
)  # fmt: skip
def test_the_pattern_that_says_most_of_a_subject_answers(subject: bytes, found: str | None) -> None:
    dispatch = Dispatch(PATTERNS)
    assert [dispatch.find(subject) for _ in range(2)] == [found, found]


def test_subjects_that_are_remembered_have_an_end() -> None:
    dispatch = Dispatch({"a.*": 1})
    for number in range(REMEMBERED * 2 + 10):
        assert dispatch.find(b"a.%d" % number) == 1
    assert len(dispatch._known) <= REMEMBERED


def test_functions_clash_where_a_subject_is_of_both() -> None:
    assert clashes({"one": "a.*", "two": "a.b", "three": "b.*", "four": "b.>"}) == [
        ("one", "two"),
        ("three", "four"),
    ]
    assert clashes({"one": "a.*", "two": "b.*"}) == []
