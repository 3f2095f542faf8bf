"""What may happen between the servers of a cluster, and to them, while a ledger is worked off."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable

from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.ledger import Ledger
from tests.support.links import Link


class Routes:
    """Three servers, the links between them, and the ledger that is troubled."""

    def __init__(self, ledger: Ledger, cluster: Cluster, links: list[Link], luck: random.Random) -> None:
        self.ledger = ledger
        self.cluster = cluster
        self.links = links
        self.luck = luck
        self.happened: dict[str, int] = {}
        self._over = asyncio.Event()

    @property
    def kinds(self) -> dict[str, Callable[[float], Awaitable[None]]]:
        """Each goes on for so many seconds, and leaves everything mended."""
        return {
            "raft stalled": self.raft_stalled,
            "link cut": lambda seconds: self.links_troubled(seconds, self._cut),
            "link frozen": lambda seconds: self.links_troubled(seconds, self._freeze),
            "link frozen one way": lambda seconds: self.links_troubled(seconds, self._freeze_one_way),
            "servers killed": self.servers_killed,
            "claims interrupted": self.claims_interrupted,
        }

    def _count(self, what: str, where: str = "") -> None:
        self.happened[what] = self.happened.get(what, 0) + 1
        self.ledger.note(f"{what} {where}")

    async def _leader(self, stream: str) -> int:
        """The place of the server that leads a stream, as a server says that does so; one by luck while there is none."""
        try:
            async with asyncio.timeout(2):
                return self.cluster.servers.index(await self.cluster.leader(stream))
        except (Exception, TimeoutError):  # noqa: BLE001 - there may be no leader just now
            return self.luck.randrange(len(self.cluster.servers))

    # -- between the servers ------------------------------------------------------------------------------

    async def raft_stalled(self, seconds: float) -> None:
        """Twice: the raft groups of one server are not heard and hear nothing, while clients go on to hear each other."""
        for _ in range(2):
            stream = self.luck.choice(["KV_jetrunner", "KV_jetrunner", "LEDGER"])
            place = await self._leader(stream)
            self._count("raft stalled", f"at n{place + 1}, which leads {stream}")
            mine = [link for link in self.links if place in link.ends]
            for link in mine:
                link.freeze(raft_alone=True)
            await asyncio.sleep(seconds * 0.4)
            for link in mine:
                await link.mend()
            self.ledger.note("raft goes on")
            await asyncio.sleep(seconds * 0.1)

    async def links_troubled(self, seconds: float, trouble: Callable[[Link], Awaitable[None]]) -> None:
        """One link at a time, again and again, for 1.5 to 11 s each."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            link = self.luck.choice(self.links)
            await trouble(link)
            await asyncio.sleep(min(self.luck.uniform(1.5, 11.0), max(1.5, until - time.monotonic())))
            await link.mend()
            self.ledger.note("link mended")
            await asyncio.sleep(self.luck.uniform(0.5, 4.0))

    async def _cut(self, link: Link) -> None:
        self._count("link cut", names(link))
        await link.cut()

    async def _freeze(self, link: Link) -> None:
        self._count("link frozen", names(link))
        link.freeze()

    async def _freeze_one_way(self, link: Link) -> None:
        sender = self.luck.choice(link.ends)
        self._count("link frozen one way", f"{names(link)}: n{sender + 1} is not heard")
        link.freeze(said_by=sender)

    # -- the servers --------------------------------------------------------------------------------------

    async def servers_killed(self, seconds: float) -> None:
        """One at a time, and each comes back."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await self._kill_server(
                self.luck.randrange(len(self.cluster.servers)), self.luck.uniform(0.0, 4.0)
            )
            await asyncio.sleep(self.luck.uniform(2.0, 6.0))

    async def claims_interrupted(self, seconds: float) -> None:
        """An owner dies, its shards are being taken, and then a server dies, too."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self.luck.uniform(1.0, 4.0))
            place = await self._leader(self.luck.choice(["KV_jetrunner", "LEDGER"]))
            killing = asyncio.create_task(self.ledger.kill())
            await asyncio.sleep(self.luck.uniform(0.03, 0.3))
            await self._kill_server(place, self.luck.uniform(0.0, 3.0))
            await killing

    async def _kill_server(self, place: int, down: float) -> None:
        server = self.cluster.servers[place]
        self._count("server killed", f"n{place + 1} for {down:.1f} s")
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(down)
        await asyncio.to_thread(server.start)

    # -- meanwhile ----------------------------------------------------------------------------------------

    def over(self) -> None:
        """What happens meanwhile happens no more."""
        self._over.set()

    async def _pause(self, low: float, high: float) -> bool:
        """Whether it goes on after a while."""
        try:
            async with asyncio.timeout(self.luck.uniform(low, high)):
                await self._over.wait()
        except TimeoutError:
            return True
        return False

    async def all_ready(self) -> None:
        """Return once every instance is ready; one that ends before that is started again."""

        def ready() -> bool:
            self.restart()
            instances = self.ledger.instances
            return all(any("ready" in line for line in each.process.stderr) for each in instances)

        await eventually(ready, within=60)

    async def restarting(self) -> None:
        """Start an instance again that has ended before it was ready, as what runs it would, until cancelled."""
        while True:
            self.restart()
            await asyncio.sleep(0.2)

    def restart(self) -> None:
        """Put another in the place of every instance that has ended by itself."""
        for instance in [each for each in self.ledger.instances if not each.process.running]:
            self._count("instance ended", f"{instance.process.pid} with {instance.process.code}")
            self.ledger.replace(instance)

    async def owners_killed(self) -> None:
        """SIGKILL an instance every few seconds; another takes its place."""
        while await self._pause(3.0, 9.0):
            self._count("owner killed")
            await self.ledger.kill()

    async def resized(self) -> None:
        """Resize the stream again and again; a command that ends without success is given again."""
        for count in itertools.cycle((12, 6)):
            if not await self._pause(2.0, 8.0):
                return
            self._count("resize")
            while await self._resize(count) != 0:
                if self._over.is_set():
                    return
                await asyncio.sleep(0.2)
            self.ledger.note(f"resized to {count}")

    async def _resize(self, count: int) -> int:
        command = self.ledger.project.start("shard", "resize", "LEDGER", str(count))
        try:
            await eventually(lambda: not command.running or self._over.is_set(), within=90)
            return await command.ended(within=60)
        except AssertionError:
            self.ledger.problems.append(f"a resize to {count} does not end:\n{command.output}")
            command.kill()
            return 0


def names(link: Link) -> str:
    """How a link is told of."""
    return "-".join(f"n{place + 1}" for place in link.ends)
