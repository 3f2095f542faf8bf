"""Shards of keys, the transform that stores them, and the way back; tests/server/test_partition.py asks the server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import sharding
from runner.core.sharding import Sharding
from runner.core.subject import covers, matches, overlaps

TOKENS = st.text(st.sampled_from("abz09-_ä€🦊"), min_size=1, max_size=6)
PATTERNS = st.lists(st.sampled_from(["orders", "a", "b", "*", "*"]), min_size=2, max_size=5)


def test_the_hash_is_fnv_1a_over_the_tokens_one_after_another() -> None:
    assert sharding.partition([], 2**31 - 1) == 0x811C9DC5 % (2**31 - 1)
    assert sharding.partition([b"foobar"], 1 << 40) == 0xBF9CF968
    assert sharding.partition([b"foo", b"bar"], 1 << 40) == 0xBF9CF968


@given(st.lists(TOKENS, min_size=3, max_size=5), st.integers(1, 300))
def test_a_messages_shard_depends_on_its_key_alone(tokens: list[str], count: int) -> None:
    sharded = Sharding(1, count, (2, 0))
    other = [tokens[0], "else", tokens[2], "more"]
    assert sharded.shard_of(".".join(tokens)) == sharded.shard_of(".".join(other))
    assert 0 <= sharded.shard_of(".".join(tokens)) < count
    assert sharded.key_of(".".join(tokens)) == f"{tokens[2]}.{tokens[0]}"


def test_a_stream_that_is_not_sharded_has_one_shard() -> None:
    assert Sharding().shard_of("any.subject") == 0
    assert not Sharding().key_of("any.subject")


def test_a_key_is_read_from_text_and_from_bytes() -> None:
    assert sharding.key("orders.ann.new", (1,)) == "ann"
    assert sharding.key(b"orders.ann.new", (1,)) == b"ann"
    assert sharding.key(b"orders.ann.new", (2, 1)) == b"new.ann"


@pytest.mark.parametrize("positions", [(3,), (0, 3)])
def test_a_subject_too_short_for_its_key_is_refused(positions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="has no token 4"):
        Sharding(1, 8, positions).shard_of("a.b.c")
    with pytest.raises(ValueError, match="has no token 4"):
        Sharding(1, 8, positions).key_of("a.b.c")


@pytest.mark.parametrize(
    ("subjects", "positions", "source", "dest"),
    [
        (["orders.*.*"], (1,), "orders.*.*", "{{partition(8,1)}}.orders.{{wildcard(1)}}.{{wildcard(2)}}"),
        (["orders.*.>"], (1,), "orders.*.>", "{{partition(8,1)}}.orders.{{wildcard(1)}}.>"),
        (["a.*.x", "a.*.y"], (1,), "a.*.*", "{{partition(8,1)}}.a.{{wildcard(1)}}.{{wildcard(2)}}"),
        (["a.*.x", "b.*.x.*"], (1,), "*.*.>", "{{partition(8,2)}}.{{wildcard(1)}}.{{wildcard(2)}}.>"),
        (["a.*.*"], (2, 1), "a.*.*", "{{partition(8,2,1)}}.a.{{wildcard(1)}}.{{wildcard(2)}}"),
        (["a.vip.x"], (1,), "a.*.x", "{{partition(8,1)}}.a.{{wildcard(1)}}.x"),
        (["*"], (0,), "*", "{{partition(8,1)}}.{{wildcard(1)}}"),
    ],
)
def test_one_transform_fits_all_subjects(
    subjects: list[str], positions: tuple[int, ...], source: str, dest: str
) -> None:
    made = sharding.transform(subjects, positions, 8, 3)
    assert made == {"src": source, "dest": f"shard.3.{dest}"}
    assert sharding.read({"subject_transform": made}) == Sharding(3, 8, positions)


@pytest.mark.parametrize(
    ("subjects", "positions", "why"),
    [
        ([], (0,), "no subjects"),
        (["a.*"], (), "no token is named"),
        (["a.*"], (1, 1), "named twice"),
        (["a.*"], (2,), '"a.\\*" has no token 3'),
        (["a.>"], (1,), '"a.>" has no token 2'),
        (["a.*", "b.*.c"], (1,), 'token 2 is the last of "a.\\*", but'),
        (["shard.*"], (1,), "those of stored messages"),
    ],
)
def test_what_no_transform_fits_is_refused_in_a_sentence(
    subjects: list[str], positions: tuple[int, ...], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        sharding.transform(subjects, positions, 8, 1)


@pytest.mark.parametrize(("count", "generation"), [(0, 1), (2**31, 1), (8, 0)])
def test_shards_and_generations_are_counted_from_one(count: int, generation: int) -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        sharding.transform(["a.*"], (1,), count, generation)


@given(st.data())
def test_a_transform_covers_its_subjects_and_reads_back(data: st.DataObject) -> None:
    first = data.draw(PATTERNS)
    second = data.draw(st.lists(st.sampled_from(["a", "*", ">"]), min_size=len(first), max_size=len(first)))
    subjects = [".".join(first), ".".join(second[: second.index(">") + 1] if ">" in second else second)]
    positions = tuple(data.draw(st.sets(st.integers(0, len(first) - 1), min_size=1)))
    try:
        made = sharding.transform(subjects, positions, 16, 2)
    except ValueError:
        return
    assert all(covers(made["src"], subject) for subject in subjects)
    assert sharding.read({"subject_transform": made}) == Sharding(2, 16, positions)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"subject_transform": None},
        {"subject_transform": {"src": "a.*", "dest": "b.{{partition(8,1)}}.a.{{wildcard(1)}}"}},
        {"subject_transform": {"src": "a.*", "dest": "shard.1.{{partition(8,1)}}.b.{{wildcard(1)}}"}},
        {"subject_transform": {"src": "a.*", "dest": "shard.1.{{partition(8,2)}}.a.{{wildcard(1)}}"}},
        {"subject_transform": {"src": "a.*.>", "dest": "shard.1.{{partition(8)}}.a.{{wildcard(1)}}.>"}},
        {"subject_transform": {"src": "a.*", "dest": "shard.0.{{partition(8,1)}}.a.{{wildcard(1)}}"}},
        {"sources": [{"name": "ORDERS"}]},
    ],
)
def test_a_transform_that_is_not_ours_is_none(config: dict[str, Any]) -> None:
    assert sharding.read(config) is None


def test_a_sourcing_stream_is_sharded_by_the_one_transform_of_its_sources() -> None:
    made = sharding.transform(["orders.*.>"], (1,), 8, 1)
    sharded = {"name": "ORDERS", "subject_transforms": [made]}
    assert sharding.read({"sources": [sharded]}) == Sharding(1, 8, (1,))
    assert sharding.read({"sources": [sharded, {"name": "OTHER"}]}) is None


def test_spaces_the_server_allows_in_a_transform_do_not_matter() -> None:
    config = {
        "subject_transform": {"src": "a.*", "dest": "shard.1.{{ partition(8, 1) }}.a.{{ wildcard(1) }}"}
    }
    assert sharding.read(config) == Sharding(1, 8, (1,))


@pytest.mark.parametrize(
    ("stored", "subject", "place"),
    [
        ("shard.1.12.orders.ann.new", "orders.ann.new", (1, 12)),
        ("shard.1.2.shard.3.4.x", "shard.3.4.x", (1, 2)),
        ("shard.1.2.x", "x", (1, 2)),
        ("orders.ann.new", "orders.ann.new", (0, 0)),
        ("shard.one.2.x", "shard.one.2.x", (0, 0)),
        ("shard.1.2", "shard.1.2", (0, 0)),
        ("shards.1.2.x", "shards.1.2.x", (0, 0)),
        ("shard.1.2.größe.🦊", "größe.🦊", (1, 2)),
    ],
)
def test_a_stored_subject_tells_the_original_and_its_shard(
    stored: str, subject: str, place: tuple[int, int]
) -> None:
    assert sharding.original(stored) == subject
    assert sharding.original(stored.encode()) == subject.encode()
    assert sharding.place(stored) == place


@pytest.mark.parametrize("pattern", ["orders.*.new", "orders.>", "*.x", "*.*.*.*.x", "orders"])
def test_a_function_that_keeps_no_order_reads_every_generation(pattern: str) -> None:
    old, sharded = sharding.filters(pattern)
    assert old == pattern
    assert covers(sharded, f"shard.1.2.{pattern}")
    assert not overlaps(old, sharded)


@pytest.mark.parametrize("pattern", [">", "*.>"])
def test_a_function_of_everything_needs_one_filter(pattern: str) -> None:
    assert sharding.filters(pattern) == [pattern]
    assert matches(pattern, "shard.1.2.a.b")


def test_a_pattern_whose_two_forms_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="name its first token"):
        sharding.filters("*.x.>")


def test_a_shards_filter_takes_its_own_generation_alone() -> None:
    assert sharding.shard_filter("orders.*.new", 2, 31) == "shard.2.31.orders.*.new"
    assert sharding.shard_filter("orders.*.new", 0, 0) == "orders.*.new"
