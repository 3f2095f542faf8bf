"""Who should own which shard: the same answer wherever it is computed, balanced, and with the fewest moves.

Rule 1: loads differ by one at most.
Rule 2: an owner that is alive keeps its shards, up to its share. When a member leaves, only its shards move. When one joins, it
        gets its share, and no other shard moves.
Rule 3: computed in the middle of a rebalance, the result is the same as at its start. So a member that reads the claims late
        disagrees only until it reads them again.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence


def assign(
    shards: Sequence[str], members: Collection[str], owners: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give each shard a member; an empty result without members. `owners` are the present owners, dead or alive.

    A shard without a living owner goes where rendezvous hashing puts it, so the order in which members start does not matter.
    """
    if not members or not shards:
        return {}
    owned: dict[str, list[str]] = {member: [] for member in sorted(members)}
    homeless: list[str] = []
    for shard in shards:
        owned.get((owners or {}).get(shard, ""), homeless).append(shard)
    room = _shares(shards, owned)
    found: dict[str, str] = {}
    for member, present in owned.items():
        if len(present) > room[member]:
            present.sort(key=lambda shard: _score(shard, member), reverse=True)
        homeless += present[room[member] :]
        kept = present[: room[member]]
        found.update(dict.fromkeys(kept, member))
        room[member] -= len(kept)
    # The best match of all first, so that shards that are placed do not change where the rest go.
    offers = sorted((_score(shard, each), shard, each) for shard in homeless for each in owned if room[each])
    for _, shard, member in reversed(offers):
        if shard not in found and room[member]:
            found[shard] = member
            room[member] -= 1
    return found


def _shares(shards: Sequence[str], owned: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many shards each member should have: the odd ones go to members where they save a move, else by hash."""
    share, odd = divmod(len(shards), len(owned))
    # The hash includes a shard: without that, the same member would have the odd shard of every function.
    salt = min(shards)
    ranked = sorted(owned, key=lambda member: (len(owned[member]) <= share, _score(salt, member)))
    return {member: share + (place < odd) for place, member in enumerate(ranked)}


def _score(shard: str, member: str) -> bytes:
    return hashlib.blake2b(f"{shard} {member}".encode(), digest_size=8).digest()


def successors(members: Collection[str], me: str, count: int = 2) -> tuple[str, ...]:
    """Name the members that `me` probes: the next `count` on the ring of sorted names, without itself.

    So `count` others probe each member, and the number of probes grows with the members, not with their square.
    """
    others = sorted(set(members) - {me})
    start = bisect_right(others, me)
    return tuple((others[start:] + others[:start])[:count])
