"""Which instance should own which shard, by the members and claims that this one knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from runner.cluster.claims import Claims, StoredClaim
from runner.cluster.members import Members
from runner.core import takeover
from runner.core.assignment import assign
from runner.core.takeover import Decision, decide, why_unowned

if TYPE_CHECKING:
    from runner.ordered.functionshards import FunctionShards


class View:
    """Computes shares and decisions from members and claims; changes nothing."""

    def __init__(self, members: Members, claims: Claims, functions: Sequence[FunctionShards]) -> None:
        self._members = members
        self._claims = claims
        self._functions = functions
        self._shares: dict[str, str] = {}

    def names(self) -> list[str]:
        """The names of all open shards."""
        return [name for function in self._functions for name in function.shard_names()]

    def shares(self, owned: Iterable[str]) -> dict[str, str]:
        """The instance that should own each shard of our functions; empty for any other shard that is owned or claimed here."""
        me, living = self._members.me.instance, self._members.living
        shares = {name: "" for name, known in self._claims.known.items() if known.claim.owner == me}
        shares.update(dict.fromkeys(owned, ""))
        for function in self._functions:
            able = sorted(name for name, member in living.items() if member.takes(function.binding.function))
            names = function.shard_names()
            owners = {name: known.claim.owner for name in names if (known := self._claims.known.get(name))}
            share = assign(names, able, owners)
            shares.update((name, share.get(name, "")) for name in names)
        self._shares = shares
        return shares

    def decide(self, name: str, share: str, held: StoredClaim | None, *, disputed: bool) -> Decision:
        """What this instance should do about a shard; `held` is its claim as last written, if this instance holds it."""
        known = self._claims.known.get(name, StoredClaim())
        owner = known.claim.owner
        sealed = known.claim.sealed > self._turn(name)
        return decide(
            takeover.SeenClaim(owner, known.revision, known.readable, sealed, self._claims.vacant(name)),
            takeover.Owner(owner in self._members.living, self._members.buried(owner)),
            me=self._members.me.instance,
            held=held.revision if held is not None else None,
            share=share,
            disputed=disputed,
        )

    def _turn(self, name: str) -> int:
        """How often a generation of the shard's function has begun to close, as far as is known here."""
        named = name.partition(".")[0]
        open_generations = (
            each.open_generation for each in self._functions if each.binding.function == named
        )
        return next((current.turn for current in open_generations if current is not None), 0)

    def standing(self, function: FunctionShards, moving: Iterable[str]) -> dict[str, str]:
        """What stands still in a function now, with the reasons; `moving` are shards that change hands and run no message."""
        standing = {
            f"shard {name}": "it is being taken, confirmed or handed over"
            for name in moving
            if name.partition(".")[0] == function.binding.function
        }
        current = function.open_generation
        if current is not None and current.closing:
            name = f"generation {current.to} of {current.stream}"
            standing[name] = f"all shards of generation {current.generation} are given back before it opens"
        return standing | self.unowned(function)

    def unowned(self, function: FunctionShards) -> dict[str, str]:
        """The function's open shards that no living instance owns, with the reasons."""
        found = {}
        for name in function.shard_names():
            known = self._claims.known.get(name, StoredClaim())
            why = why_unowned(
                takeover.SeenClaim(known.claim.owner, known.revision, known.readable),
                share=self._shares.get(name, ""),
                living=known.claim.owner in self._members.living,
                vacant=known.claim.vacant,
            )
            if why:
                found[f"shard {name}"] = why
        return found
