"""Where one shard stands: whose it is, in which stream, and its number there."""

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
        """What its claim and the log know it by."""
        return f"{self.function}.{self.generation}.{self.number}"

    @property
    def durable(self) -> str:
        """The name of its durable consumer."""
        return shard_durable(self.project, self.function, self.generation, self.number)
