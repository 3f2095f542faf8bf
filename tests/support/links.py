"""A cluster whose routes go through proxies: what is between two of its servers may be cut, frozen and mended.

Measured on 2.15.1: each server dials each of its `routes`, and of two connections for the same use one is closed, so
either of the two proxies between a pair may carry it. A pair has three pooled connections, of which an account uses one,
and a fourth for the system account alone, without any setting for it: raft groups and the JetStream API speak there.
The dialler's first INFO names it (`"route_account":"$SYS"`). A message goes over one route at most: without the link
between two servers their clients do not hear each other, also when a third server hears both.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.pipe import Connection
from tests.support.port import free_port
from tests.support.proxy import Proxy, all_of_them

SYSTEM = "$SYS"


def raft(connection: Connection) -> bool:
    """Whether a route carries the system account: what the servers' raft groups say to each other."""
    return connection.account == SYSTEM


class Link:
    """What is between two servers, by their places in `cluster.servers`; `proxies[i]` is what server i dials."""

    def __init__(self, proxies: dict[int, Proxy]) -> None:
        self.proxies = proxies
        self.ends = tuple(proxies)

    async def cut(self) -> None:
        """Break it, and refuse it until `mend`."""
        await asyncio.gather(*(proxy.cut(refuse=True) for proxy in self.proxies.values()))

    async def mend(self) -> None:
        """Let everything through again."""
        await asyncio.gather(*(proxy.mend() for proxy in self.proxies.values()))

    def freeze(self, *, said_by: int | None = None, raft_alone: bool = False) -> None:
        """Hold what both servers say to each other, or what one of them says; of all or of their raft groups alone."""
        for dialler, proxy in self.proxies.items():
            only = raft if raft_alone else all_of_them
            if said_by is None:
                proxy.freeze(only=only)
            else:
                proxy.freeze("up" if dialler == said_by else "down", only=only)

    def delay(self, seconds: float) -> None:
        """Add latency to both directions."""
        for proxy in self.proxies.values():
            proxy.delay(seconds)


@asynccontextmanager
async def linked_cluster(
    directory: Path, config: str = "", *, size: int = 3
) -> AsyncIterator[tuple[Cluster, list[Link]]]:
    """A cluster that has started, and the links between each two of its servers."""
    ports = [free_port() for _ in range(size)]
    links: list[Link] = []
    dialled: list[list[int]] = [[] for _ in range(size)]
    async with AsyncExitStack() as stack:
        for one, other in itertools.combinations(range(size), 2):
            there = await stack.enter_async_context(Proxy.to(ports[other]))
            back = await stack.enter_async_context(Proxy.to(ports[one]))
            links.append(Link({one: there, other: back}))
            dialled[one].append(there.port)
            dialled[other].append(back.port)
        cluster = Cluster(directory, config, listening=ports, dialled=dialled)
        stack.callback(cluster.stop)
        # The proxies live in this loop: it must not wait for a server.
        await asyncio.to_thread(cluster.start)
        await cluster.ready()
        yield cluster, links
