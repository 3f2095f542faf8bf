"""Failed attempts of a shard's messages, kept in the bucket: the attempt is exact whoever owns the shard."""

from __future__ import annotations

from runner.engine.process import Process
from runner.jetstream.delivery import Delivery
from runner.jetstream.lease import Leases


class Failures:
    """Sequence → how often its handler has failed."""

    def __init__(self, process: Process, function: str, generation: int, shard: int) -> None:
        self._bucket = process.bucket
        self._leases = Leases(process.connection)
        self._prefix = f"failures.{process.project}.{function}.{generation}.{shard}."
        self.counts: dict[int, int] = {}
        """Only messages that have failed are in it."""

    async def load(self) -> None:
        """Read what earlier owners recorded."""
        entries = await self._leases.read([self._prefix + "*"])
        self.counts = {int(key.rpartition(".")[2]): int(entry.value) for key, entry in entries.items()}

    async def add(self, sequence: int) -> None:
        """One more; it is stored when this returns."""
        count = self.counts[sequence] = self.counts.get(sequence, 0) + 1
        await self._bucket.put(f"{self._prefix}{sequence}", b"%d" % count)

    async def next_attempt(self, delivery: Delivery) -> None:
        """Count the failure of a delivery's handler, and make it ready to run again."""
        await self.add(delivery.sequence)
        delivery.attempt = 1 + self.counts[delivery.sequence]
        delivery.careful = True
        delivery.started = 0.0
        for name in ("overdue", "recorded", "finishing", "span", "result"):
            delivery.__dict__.pop(name, None)

    async def drop(self, sequence: int) -> None:
        """It is settled."""
        if self.counts.pop(sequence, None) is not None:
            await self._bucket.drop(f"{self._prefix}{sequence}")

    async def clear(self) -> None:
        """The stream is another one: these were other messages."""
        for sequence in list(self.counts):
            await self.drop(sequence)
