"""How lanes learn that messages of some keys do not run when their turn comes; implemented by `parking.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from runner.core.shardlife import ShardLife
from runner.jetstream.delivery import Delivery
from runner.ordered.turns import Turns
from runner.pipeline.fence import Fences
from runner.pipeline.message import Incoming


class Diversion(Protocol):
    """The keys of one ordered function whose messages do not run when their turn comes."""

    @property
    def marks(self) -> Mapping[bytes, Any]:
        """The marks of such keys; while there are none, `turns_away` is not called."""

    def turns_away(self, key: bytes, delivery: Delivery) -> bool:
        """Whether a message does not run now; then the diversion settles it."""

    async def park(self, fences: Fences, key: bytes, incoming: Incoming) -> None:
        """A message of this key was given up; returns once it may be terminated."""

    async def load(self, shard: str, life: ShardLife) -> None:
        """Read all such keys of a shard. Raises JetrunnerError."""

    def lose(self, turns: Turns) -> None:
        """Another instance owns the shard of these turns."""
