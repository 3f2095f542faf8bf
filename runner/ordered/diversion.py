"""What keeps messages of some keys from running when their turn comes, as lanes know it (`parking.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from runner.core.shardlife import ShardLife
from runner.jetstream.delivery import Delivery
from runner.ordered.turns import Turns
from runner.pipeline.fence import Fences
from runner.pipeline.message import Incoming


class Diversion(Protocol):
    """Of one ordered function."""

    @property
    def marks(self) -> Mapping[bytes, Any]:
        """Such keys; while there are none, `turns_away` is not asked."""

    def turns_away(self, key: bytes, delivery: Delivery) -> bool:
        """Whether a message does not run now; then it is settled otherwise."""

    async def park(self, fences: Fences, key: bytes, incoming: Incoming) -> None:
        """A message of this key was given up; returns once it may be terminated."""

    async def load(self, shard: str, life: ShardLife) -> None:
        """Know all such keys of a shard. Raises JetrunnerError."""

    def lose(self, turns: Turns) -> None:
        """Another instance owns the shard that these are of."""
