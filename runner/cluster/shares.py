"""What should be whose: the shares of all instances, by what this one knows of members and claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from runner.cluster.claims import Claims, Standing
from runner.cluster.members import Members
from runner.core import takeover
from runner.core.assignment import assign
from runner.core.takeover import Decision, decide, why_unowned

if TYPE_CHECKING:
    from runner.ordered.function import OrderedFunction


class View:
    """Reads members and claims, and changes nothing."""

    def __init__(self, members: Members, claims: Claims, functions: Sequence[OrderedFunction]) -> None:
        self._members = members
        self._claims = claims
        self._functions = functions
        self._shares: dict[str, str] = {}

    def names(self) -> list[str]:
        """Every shard that is open."""
        return [name for function in self._functions for name in function.shard_names()]

    def shares(self, owned: Iterable[str]) -> dict[str, str]:
        """Who should own every shard of our functions; no instance, for any other that is owned or claimed here."""
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

    def decide(self, name: str, share: str, held: Standing | None, *, disputed: bool) -> Decision:
        """What this instance should do about a shard, whose claim it holds as it was last written, or does not hold."""
        known = self._claims.known.get(name, Standing())
        owner = known.claim.owner
        sealed = known.claim.sealed > self._turn(name)
        return decide(
            takeover.Standing(owner, known.revision, known.readable, sealed, self._claims.vacant(name)),
            takeover.Owner(owner in self._members.living, self._members.buried(owner)),
            me=self._members.me.instance,
            held=held.revision if held is not None else None,
            share=share,
            disputed=disputed,
        )

    def _turn(self, name: str) -> int:
        """How often a generation of its function has begun to close, as far as is known here."""
        named = name.partition(".")[0]
        open_generations = (
            each.open_generation for each in self._functions if each.binding.function == named
        )
        return next((current.turn for current in open_generations if current is not None), 0)

    def standing(self, function: OrderedFunction, moving: Iterable[str]) -> dict[str, str]:
        """What of a function does not go on now, and why; `moving` are shards that change hands while nothing runs there."""
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

    def unowned(self, function: OrderedFunction) -> dict[str, str]:
        """Its open shards that no living instance owns, and why."""
        found = {}
        for name in function.shard_names():
            known = self._claims.known.get(name, Standing())
            why = why_unowned(
                takeover.Standing(known.claim.owner, known.revision, known.readable),
                share=self._shares.get(name, ""),
                living=known.claim.owner in self._members.living,
                vacant=known.claim.vacant,
            )
            if why:
                found[f"shard {name}"] = why
        return found
