"""Which generation of shards a function works on, and which comes next."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core import sharding
from runner.core.generation import (
    METADATA,
    METADATA_BY,
    OpenGeneration,
    counts,
    following,
    oldest,
    positions,
    resized,
    splitting,
    stored_subject,
    straggler,
)
from runner.core.sharding import Sharding


def current(generation: int, **fields: Any) -> OpenGeneration:
    return OpenGeneration(
        **{
            "stream": "LEDGER",
            "created": "then",
            "subject": "ledger.*",
            "generation": generation,
            "count": 8,
            **fields,
        }
    )


def config(generation: int, count: int, **fields: Any) -> dict[str, Any]:
    transform = sharding.transform(["ledger.*.posted"], (1,), count, generation)
    return {"name": "LEDGER", "subjects": ["ledger.*.posted"], "subject_transform": transform, **fields}


@pytest.mark.parametrize(
    ("stored", "standing", "newest", "deliver", "expected"),
    [
        ({}, {}, 0, "all", (0, 0)),
        ({}, {}, 3, "all", (3, 0)),
        ({0: 50}, {}, 1, "all", (0, 0)),
        ({1: 50, 2: 90}, {}, 3, "all", (1, 0)),
        ({1: 50, 2: 90}, {}, 3, "new", (3, 90)),
        ({1: 50, 2: 90}, {2: 8}, 3, "all", (2, 50)),  # its durables of 1 are gone: it was drained
        ({1: 50, 2: 90}, {2: 8, 3: 32}, 3, "new", (2, 50)),
        ({}, {4: 8}, 3, "all", (3, 0)),  # the stream was made anew
    ],
)
def test_a_function_begins_with_the_oldest_generation_that_has_messages_for_it(
    stored: dict[int, int], standing: dict[int, int], newest: int, deliver: str, expected: tuple[int, int]
) -> None:
    assert oldest(stored, standing, newest, deliver=deliver) == expected


def test_generations_without_messages_are_passed_over() -> None:
    assert following(current(1), {1: 50, 4: 90}, 6) == 4
    assert following(current(4), {1: 50, 4: 90}, 6) == 6
    assert following(current(1, first=200), {2: 150, 3: 210}, 5) == 3
    assert following(current(5), {}, 2) == 2  # somebody took the transform back


def test_another_generation_opens_only_after_a_time_in_which_none_is() -> None:
    closing = current(1).towards(2, through=70)
    assert (closing.closing, closing.generation, closing.through) == (True, 1, 70)
    assert closing.reopened() == current(1, through=70, turn=1)
    assert closing.towards(2, through=80).turn == 1, "it is closing already"
    assert closing.reopened().towards(2, through=80).turn == 2
    opened = closing.opened(32, (1,))
    assert (opened.closing, opened.generation, opened.count, opened.start) == (False, 2, 32, 0)
    assert opened.sharding == Sharding(2, 32, (1,))


def test_what_came_late_in_the_old_form_is_read_from_where_that_was_left() -> None:
    now = current(1, first=10).towards(2, through=70).opened(32, (1,))
    assert straggler(now, {1: 70}) == -1
    assert straggler(now, {0: 5, 1: 75}) == 1
    back = now.towards(1, now.through).opened(8, (1,))
    assert (back.generation, back.start) == (1, 71)
    forth = back.towards(2, 75).opened(32, (1,))
    assert (forth.generation, forth.start, forth.through) == (2, 10, 75)
    assert straggler(forth, {1: 75}) == -1


def test_a_resize_is_the_next_generation_and_remembers_the_earlier_ones() -> None:
    first = config(1, 8, metadata={"team": "money"})
    second = resized(first, 32)
    assert sharding.read(second) == Sharding(2, 32, (1,))
    assert second["metadata"] == {"team": "money", METADATA: "8,32"}
    third = resized(second, 4)
    assert counts(third) == {0: 1, 1: 8, 2: 32, 3: 4}
    assert {**third, "subject_transform": 0, "metadata": 0} == {
        **first,
        "subject_transform": 0,
        "metadata": 0,
    }


def test_counts_that_nobody_kept_are_not_made_up() -> None:
    assert counts(config(3, 8)) == {0: 1, 3: 8}
    assert counts(config(3, 8, metadata={METADATA: "x"})) == {0: 1, 3: 8}
    assert counts(resized(config(3, 8), 16)) == {0: 1, 3: 8, 4: 16}
    assert counts({"subjects": ["ledger.*"]}) == {0: 1}


def test_each_generation_keeps_the_tokens_that_it_is_sharded_by() -> None:
    first = resized(config(1, 8), 32)
    assert METADATA_BY not in first["metadata"]
    second = resized(first, 32, (1, 2))
    assert sharding.read(second) == Sharding(3, 32, (1, 2))
    assert second["metadata"] == {METADATA: "8,32,32", METADATA_BY: "1,1,1+2"}
    third = resized(second, 4)
    assert third["metadata"] == {METADATA: "8,32,32,4", METADATA_BY: "1,1,1+2,1+2"}
    fourth = resized(third, 4, (2,))
    assert [positions(fourth, generation) for generation in range(1, 6)] == [(1,), (1,), (1, 2), (1, 2), (2,)]
    assert positions(config(3, 8, metadata={METADATA_BY: "x,1"}), 1) == (1,)
    assert positions({"subjects": ["ledger.*"]}, 0) == ()


@pytest.mark.parametrize(
    ("subject", "keys", "by", "expected"),
    [
        ("ledger.*.posted", (1,), (1,), None),
        ("ledger.*.*", (1,), (1, 2), 2),
        ("ledger.*.*", (2, 1), (1, 2), None),
        ("ledger.*.posted", (1,), (1, 2), None),  # always the same token
        ("ledger.*.>", (1,), (2,), 2),
        ("ledger.*.>", (1,), (3,), 3),
    ],
)
def test_shards_by_a_token_that_is_not_the_keys_would_split_it(
    subject: str, keys: tuple[int, ...], by: tuple[int, ...], expected: int | None
) -> None:
    assert splitting(subject, keys, by) == expected


@pytest.mark.parametrize(
    ("real", "count", "reason"),
    [
        (config(1, 8), 0, "between 1 and 1,024"),
        (config(1, 8), 1025, "between 1 and 1,024"),
        ({"subjects": ["ledger.*"]}, 8, "not sharded"),
        (
            {
                "sources": [
                    {
                        "name": "BANK",
                        "subject_transforms": [sharding.transform(["ledger.*.posted"], (1,), 8, 1)],
                    }
                ]
            },
            16,
            "copy everything again",
        ),
    ],
)
def test_a_resize_that_cannot_be_says_why(real: dict[str, Any], count: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        resized(real, count)


def test_generation_0_has_the_subjects_as_they_were_published() -> None:
    assert stored_subject("ledger.*", 0) == "ledger.*"
    assert stored_subject("ledger.*", 3) == "shard.3.*.ledger.*"
