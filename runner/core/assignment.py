"""Who should own which shard: the same answer wherever it is computed, balanced, and with the fewest moves.

Rule 1: loads differ by one at most.
Rule 2: an owner that lives keeps its shards, up to its share: a leaving member's shards alone move, a joining one is
    given its share and nothing else moves.
Rule 3: a rebalance that is half done has the same end as before: who reads the claims late disagrees only meanwhile.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence


def assign(
    shards: Sequence[str], members: Collection[str], owners: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give each shard a member; nothing without members. `owners` are the present ones, dead or alive.

    What has no living owner goes where rendezvous hashing puts it, so a first start needs no order of coming.
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
    # The best match of all first: what is placed already does not change where the rest goes.
    offers = sorted((_score(shard, each), shard, each) for shard in homeless for each in owned if room[each])
    for _, shard, member in reversed(offers):
        if shard not in found and room[member]:
            found[shard] = member
            room[member] -= 1
    return found


def _shares(shards: Sequence[str], owned: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many shards each member should have: the odd ones go where they save a move, else by hash."""
    share, odd = divmod(len(shards), len(owned))
    # One of the shards is in the hash, or the same member would have the odd shard of every function.
    salt = min(shards)
    ranked = sorted(owned, key=lambda member: (len(owned[member]) <= share, _score(salt, member)))
    return {member: share + (place < odd) for place, member in enumerate(ranked)}


def _score(shard: str, member: str) -> bytes:
    return hashlib.blake2b(f"{shard} {member}".encode(), digest_size=8).digest()


def successors(members: Collection[str], me: str, count: int = 2) -> tuple[str, ...]:
    """Name those that `me` probes: the next ones on the ring of sorted names, never itself.

    So each member is probed by `count` others, and the probes of all grow with the members, not with their square.
    """
    others = sorted(set(members) - {me})
    start = bisect_right(others, me)
    return tuple((others[start:] + others[:start])[:count])
