"""Everything that may happen to the instances of a ledger and to their server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from tests.support.jetstream import RawJetStream
from tests.support.ledger import Ledger
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer
from tests.support.store_faults import OLDER, half_open, purge_bucket, restore

LEASE_SECONDS = 3.0


class Faults:
    """Troubles a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.happened: dict[str, int] = {}
        """How many faults of each kind took effect."""

    async def trouble(self, number: int, seconds: float, *, without: Collection[str] = ()) -> None:
        """Draw that many faults and let them happen over the time, overlapping as they fall; in the place of one that
        finds nothing to strike another happens."""
        kinds = [each for each in self.kinds if each not in without]
        # Each kind comes as often as the others; the order is luck.
        drawn = [kinds[place % len(kinds)] for place in range(number)]
        self.ledger.luck.shuffle(drawn)
        moments = sorted(self.ledger.luck.uniform(0.05, 1.0) * seconds for _ in drawn)
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for kind, moment in zip(drawn, moments, strict=True):
                await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
                tasks.create_task(self._happen(kind, kinds))

    async def _happen(self, kind: str, kinds: Sequence[str]) -> None:
        others = [each for each in kinds if each != kind]
        self.ledger.luck.shuffle(others)
        for drawn in (kind, *others):
            self.ledger.note(drawn)
            if await self.kinds[drawn]():
                self.happened[drawn] = self.happened.get(drawn, 0) + 1
                return

    @property
    def kinds(self) -> dict[str, Callable[[], Awaitable[bool]]]:
        """Everything that may happen; True from one that took effect."""
        return {
            "kill": self.ledger.kill, "kill two": self.kill_two, "freeze past the lease": self.freeze, "hiccup": self.hiccup,
            "stop": self.stop, "join": self.join, "kill server": self.kill_server,
            "kill server and owner": self.kill_server_and_owner, "cut": self.cut, "cut off": self.cut_off,
            "silence": self.silence, "half-open connection": partial(half_open, self.ledger),
            "bucket purged": partial(purge_bucket, self.ledger), OLDER: partial(restore, self.ledger),
        }  # fmt: skip

    async def kill_two(self) -> bool:
        """SIGKILL two at the same moment."""
        return all(await asyncio.gather(self.ledger.kill(), self.ledger.kill()))

    async def freeze(self) -> bool:
        """SIGSTOP an instance until well after its lease, then SIGCONT."""
        return await self._freeze(self.ledger.luck.uniform(LEASE_SECONDS + 0.2, LEASE_SECONDS + 3))

    async def hiccup(self) -> bool:
        """SIGSTOP an instance for less than its lease."""
        return await self._freeze(self.ledger.luck.uniform(0.05, LEASE_SECONDS - 0.5))

    async def _freeze(self, seconds: float) -> bool:
        chosen = self.ledger.pick()
        if chosen is not None:
            self.ledger.note(f"  SIGSTOP {chosen.process.pid} for {seconds:.2f} s")
            chosen.process.freeze()
            await asyncio.sleep(seconds)
            self.ledger.thaw(chosen)
        return chosen is not None

    async def stop(self) -> bool:
        """SIGTERM an instance; its replacement starts at the same moment, unless there are many."""
        chosen = self.ledger.pick()
        if chosen is not None:
            self.ledger.note(f"  SIGTERM {chosen.process.pid}")
            self.ledger.instances.remove(chosen)
            self.ledger.unexpected(chosen)
            chosen.process.terminate()
            self.ledger.ended.append(chosen.process)
            if len(self.ledger.instances) < 4:
                self.ledger.add(behind_proxy=self.ledger.luck.random() < 0.5)
        return chosen is not None

    async def join(self) -> bool:
        """One more instance."""
        room = len(self.ledger.instances) < 6
        if room:
            self.ledger.add(behind_proxy=self.ledger.luck.random() < 0.5)
        return room

    async def kill_server(self) -> bool:
        """SIGKILL nats-server and start it again on its port and store."""
        if self.ledger.server is not None:
            async with self.ledger.server_down:
                self.ledger.server.kill()
                await asyncio.sleep(self.ledger.luck.choice((0.0, 0.3, 1.0)))
                await asyncio.to_thread(self.ledger.server.start)
        return self.ledger.server is not None

    async def kill_server_and_owner(self) -> bool:
        """Both within moments."""
        chosen = self.ledger.pick()
        if self.ledger.server is None or chosen is None:
            return False
        owner_first = self.ledger.luck.random() < 0.5
        async with self.ledger.server_down:
            if owner_first:
                self.ledger.kill_now(chosen)
                await asyncio.sleep(self.ledger.luck.random() * 0.1)
            self.ledger.server.kill()
            if not owner_first:
                await asyncio.sleep(self.ledger.luck.random() * 0.1)
                self.ledger.kill_now(chosen)
            await asyncio.to_thread(self.ledger.server.start)
        self.ledger.add(behind_proxy=self.ledger.luck.random() < 0.5)
        return True

    async def cut(self) -> bool:
        """Break an instance's connection; it may connect again at once."""
        chosen = self.ledger.pick(proxied=True)
        if chosen is not None and chosen.proxy is not None:
            self.ledger.note(f"  cut {chosen.process.pid}")
            await chosen.proxy.cut()
            chosen.troubled = False
        return chosen is not None

    async def cut_off(self) -> bool:
        """Break an instance's connection and refuse new ones for a while."""
        chosen = self.ledger.pick(proxied=True)
        if chosen is not None and chosen.proxy is not None:
            seconds = self.ledger.luck.uniform(0.5, LEASE_SECONDS + 1)
            self.ledger.note(f"  cut off {chosen.process.pid} for {seconds:.2f} s")
            await chosen.proxy.cut(refuse=True)
            await asyncio.sleep(seconds)
            await chosen.proxy.mend()
            chosen.troubled = False
        return chosen is not None

    async def silence(self) -> bool:
        """Hold every byte between an instance and the server until after its lease."""
        chosen = self.ledger.pick(proxied=True)
        if chosen is not None and chosen.proxy is not None:
            seconds = self.ledger.luck.uniform(LEASE_SECONDS, LEASE_SECONDS + 2)
            self.ledger.note(f"  silence {chosen.process.pid} for {seconds:.2f} s")
            chosen.proxy.freeze()
            await asyncio.sleep(seconds)
            chosen.proxy.thaw()
            chosen.troubled = False
        return chosen is not None


@asynccontextmanager
async def at_work(
    project: Project, server: NatsServer, js: RawJetStream, luck: random.Random, shards: int
) -> AsyncIterator[Faults]:
    """A ledger to which everything may happen: four instances, every other one behind a proxy, own all its shards."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy.to(server.port)) for _ in range(8)]
        ledger = Ledger(project, server.url, js, luck, server=server, proxies=proxies)
        for number in range(4):
            ledger.add(behind_proxy=number % 2 == 0)
        await ledger.owning(shards)
        yield Faults(ledger)
