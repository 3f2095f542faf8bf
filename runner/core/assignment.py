"""Who owns which shard: rendezvous hashing, balanced."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def assign(shards: Sequence[str], members: Sequence[str]) -> dict[str, str]:
    """Balanced within one."""
    most = -(-len(shards) // max(1, len(members)))
    load = dict.fromkeys(members, 0)
    found = {}
    for shard in shards:
        ranked = sorted(members, key=lambda m: hashlib.blake2b(f"{shard} {m}".encode(), digest_size=8).digest())
        for member in ranked:
            if load[member] < most:
                load[member] += 1
                found[shard] = member
                break
    return found


def successors(members: Sequence[str], me: str, count: int = 2) -> tuple[str, ...]:
    """The next on the ring."""
    if me not in members:
        return ()
    at = list(members).index(me)
    ring = [*members[at + 1 :], *members[:at]]
    return tuple(ring[:count])
