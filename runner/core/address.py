"""The address of one shard: its project, function, stream, generation and number."""

from __future__ import annotations

from msgspec import Struct

from runner.core.identity import shard_durable


class Address(Struct, frozen=True):
    """One shard of one ordered function."""

    project: str
    function: str
    stream: str
    generation: int
    number: int

    @property
    def name(self) -> str:
        """The shard's name in its claim and in the log."""
        return f"{self.function}.{self.generation}.{self.number}"

    @property
    def durable(self) -> str:
        """The name of its durable consumer."""
        return shard_durable(self.project, self.function, self.generation, self.number)
