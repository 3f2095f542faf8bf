"""Who should own which shard, and whom each member probes."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.assignment import assign, successors

MEMBERS = st.sets(st.integers(0, 999).map(lambda number: f"member-{number}"), min_size=1, max_size=12)
SHARDS = st.integers(0, 70).map(lambda count: [f"charge.1.{number}" for number in range(count)])


def loads(owners: dict[str, str], members: set[str]) -> list[int]:
    count = Counter(owners.values())
    return sorted(count[member] for member in members)


@st.composite
def owned(draw: st.DrawFn) -> tuple[list[str], set[str], dict[str, str]]:
    """Shards, members, and owners of all sorts: living, gone, none, and as unfair as may be."""
    shards, members = draw(SHARDS), draw(MEMBERS)
    owner = st.sampled_from([*sorted(members), "gone", ""])
    return shards, members, {shard: draw(owner) for shard in shards}


@given(owned())
def test_every_shard_has_an_owner_and_loads_differ_by_one_at_most(
    case: tuple[list[str], set[str], dict[str, str]],
) -> None:
    shards, members, owners = case
    found = assign(shards, members, owners)
    assert sorted(found) == sorted(shards)
    assert set(found.values()) <= members
    share = loads(found, members)
    assert share[-1] - share[0] <= 1


@given(owned(), st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_matter(
    case: tuple[list[str], set[str], dict[str, str]], random: Random
) -> None:
    shards, members, owners = case
    other_shards, other_members = list(shards), sorted(members)
    random.shuffle(other_shards)
    random.shuffle(other_members)
    assert assign(other_shards, other_members, owners) == assign(shards, members, owners)


@given(owned())
def test_no_more_moves_than_balance_needs(case: tuple[list[str], set[str], dict[str, str]]) -> None:
    shards, members, owners = case
    found = assign(shards, members, owners)
    count = Counter(owner for owner in owners.values() if owner in members)
    share, odd = divmod(len(shards), len(members))
    # Whoever has more than its share keeps `share`, and `odd` of those one more.
    rich = sum(count[member] > share for member in members)
    most_kept = sum(min(count[member], share) for member in members) + min(rich, odd)
    assert sum(found[shard] == owners[shard] for shard in shards) == most_kept


@given(SHARDS, MEMBERS, st.data())
def test_a_leaving_member_moves_only_its_own_shards(
    shards: list[str], members: set[str], data: st.DataObject
) -> None:
    before = assign(shards, members)
    leaving = data.draw(st.sampled_from(sorted(members)))
    after = assign(shards, members - {leaving}, before)
    if len(members) > 1:
        assert {shard for shard in shards if after[shard] != before[shard]} == {
            shard for shard in shards if before[shard] == leaving
        }
    else:
        assert not after


@given(SHARDS, MEMBERS)
def test_a_joining_member_is_given_its_share_and_nothing_else_moves(
    shards: list[str], members: set[str]
) -> None:
    before = assign(shards, members)
    after = assign(shards, members | {"new"}, before)
    moved = [shard for shard in shards if after[shard] != before[shard]]
    assert all(after[shard] == "new" for shard in moved)
    assert len(moved) == len(shards) // (len(members) + 1)


@given(owned(), st.data())
def test_a_rebalance_half_done_has_the_same_end(
    case: tuple[list[str], set[str], dict[str, str]], data: st.DataObject
) -> None:
    shards, members, owners = case
    target = assign(shards, members, owners)
    half = {shard: data.draw(st.sampled_from([owners[shard], target[shard]])) for shard in shards}
    freed = {
        shard: "" if target[shard] != owner and data.draw(st.booleans()) else owner
        for shard, owner in half.items()
    }
    assert assign(shards, members, half) == target
    assert assign(shards, members, freed) == target


def test_functions_of_one_shard_do_not_all_meet_at_one_member() -> None:
    members = [f"member-{number}" for number in range(4)]
    owners = Counter(
        assign([f"function{number}.0.0"], members)[f"function{number}.0.0"] for number in range(200)
    )
    assert len(owners) == len(members)
    assert max(owners.values()) < 80


def test_without_members_nobody_owns_anything() -> None:
    assert assign(["charge.1.0"], []) == {}
    assert assign([], ["a"]) == {}


@pytest.mark.parametrize(
    ("members", "me", "probed"),
    [
        (["a", "b", "c", "d"], "a", ("b", "c")),
        (["d", "c", "b", "a"], "c", ("d", "a")),
        (["a", "b"], "b", ("a",)),
        (["a"], "a", ()),
        ([], "a", ()),
        (["a", "c", "d"], "b", ("c", "d")),
    ],
)
def test_each_probes_the_next_two_on_the_ring(members: list[str], me: str, probed: tuple[str, ...]) -> None:
    assert successors(members, me) == probed


@given(MEMBERS, st.integers(1, 4))
def test_each_member_is_probed_by_as_many_as_it_probes(members: set[str], count: int) -> None:
    probes = Counter(probed for me in members for probed in successors(members, me, count))
    expected = min(count, len(members) - 1)
    assert all(probes[member] == expected for member in members)
