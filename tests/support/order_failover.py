"""How long the shards of an instance stand still when it ends: from the signal to the next start in each of them."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Callable

from runner.core.sharding import partition
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import Instance, Ledger
from tests.support.order import Line


class Failover:
    """A ledger under steady load; `end` ends an owner and measures."""

    def __init__(self, ledger: Ledger, js: RawJetStream, shards: int, instances: int) -> None:
        self.ledger = ledger
        self.js = js
        self.shards = shards
        self.instances = instances
        self._stop = asyncio.Event()

    async def load(self, rate: float, keys: int) -> None:
        """Post that many messages a second until `stop`."""
        number, began = 0, time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            while not self._stop.is_set():
                while number < rate * (time.monotonic() - began):
                    number += 1
                    tasks.create_task(self.ledger.post(number, keys))
                await asyncio.sleep(0.005)

    def stop(self) -> None:
        """End the load."""
        self._stop.set()

    async def owners(self) -> dict[int, int]:
        """Shard → process id of its owner, for shards that have one."""
        found = {}
        for number in range(self.shards):
            answer = await self.js.api(
                "STREAM.MSG.GET.KV_jetrunner", {"last_by_subj": f"$KV.jetrunner.claim.shop.post.1.{number}"}
            )
            owner = json.loads(base64.b64decode(answer["message"]["data"]))["owner"]
            if owner:
                found[number] = int(owner.rsplit("-", 2)[1])
        return found

    async def balanced(self) -> dict[int, int]:
        """Return the owners once each instance has its share, and works on it."""
        while len(self.ledger.instances) < self.instances:
            self.ledger.add()
        owners: dict[int, int] = {}

        async def even() -> bool:
            owners.clear()
            owners.update(await self.owners())
            loads = [list(owners.values()).count(each.process.pid) for each in self.ledger.instances]
            return sum(loads) == self.shards and max(loads) - min(loads) <= 1

        try:
            await eventually(even)
        except AssertionError:
            raise AssertionError(
                f"not balanced:\n{await self.ledger.shards()}\n{self.ledger.explain()}"
            ) from None
        before = self.ledger.journal.stat().st_size
        await eventually(lambda: len(self.starts(before, owners)) == self.shards)
        return owners

    def starts(self, offset: int, owners: dict[int, int], *, other: bool = False) -> dict[int, float]:
        """When each shard's next message started after that place of the journal, at its owner or at an `other`."""
        found: dict[int, float] = {}
        with self.ledger.journal.open("rb") as file:
            file.seek(offset)
            lines = file.read().decode().splitlines(keepends=True)
        for text in lines:
            if not text.startswith("S ") or not text.endswith("\n"):
                continue
            line = Line.read(text)
            shard = partition([line.key.encode()], self.shards)
            if shard in owners and (int(line.pid) != owners[shard]) == other and shard not in found:
                found[shard] = line.time
        return found

    async def end(
        self, how: Callable[[Instance], None], luck: random.Random, *, within: float = 60.0
    ) -> list[float]:
        """End one owner by `how`; seconds until the next message of each of its shards started elsewhere."""
        owners = await self.balanced()
        victim = luck.choice(self.ledger.instances)
        lost = {shard: pid for shard, pid in owners.items() if pid == victim.process.pid}
        offset = self.ledger.journal.stat().st_size
        began = time.time()
        how(victim)
        await eventually(lambda: len(self.starts(offset, lost, other=True)) == len(lost), within=within)
        self.ledger.instances.remove(victim)
        self.ledger.ended.append(victim.process)
        return [start - began for start in self.starts(offset, lost, other=True).values()]


def figures(samples: list[float]) -> str:
    """Percentiles in milliseconds."""
    ordered = sorted(samples)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, most {ordered[-1] * 1e3:.0f} ms ({len(ordered)} moves)"
