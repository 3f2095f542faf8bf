"""Three nats-servers that form one JetStream cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from runner.jetstream.ownstreams import GATHER, STREAMS
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.server import NatsServer


class Cluster:
    """Servers `n1`, `n2` and `n3`; each may be stopped, killed, frozen and restarted by itself.

    `listening` are the ports that they take routes on, `dialled` those that each of them dials to reach the others.
    """

    def __init__(
        self,
        directory: Path,
        config: str = "",
        *,
        size: int = 3,
        listening: Sequence[int] = (),
        dialled: Sequence[Sequence[int]] = (),
    ) -> None:
        ports = listening or [free_port() for _ in range(size)]
        self.servers: list[NatsServer] = []
        for place, port in enumerate(ports):
            others = dialled[place] if dialled else [other for other in ports if other != port]
            # A server that is told of another by a third would dial the address that is advertised: nothing is there.
            hidden = 'no_advertise: true, advertise: "127.0.0.1:1", ' if dialled else ""
            routes = ", ".join(f'"nats://127.0.0.1:{other}"' for other in others)
            text = (
                f"server_name: n{place + 1}\n"
                f"cluster {{ name: test, listen: 127.0.0.1:{port}, {hidden}routes: [{routes}] }}\n"
                f"{config}"
            )
            self.servers.append(NatsServer(directory / f"n{place + 1}", text))

    @property
    def url(self) -> str:
        """Every server's URL, separated by commas."""
        return ",".join(server.url for server in self.servers)

    def start(self) -> Cluster:
        """Start every server; `ready` then waits for their leader."""
        for server in self.servers:
            server.start()
        return self

    def stop(self) -> None:
        """End every server at once: their stores are thrown away with the test."""
        for server in self.servers:
            server.kill()

    async def ready(self, *, within: float = 60.0) -> None:
        """Return once the cluster takes an R3 stream."""
        async with RawJetStream.connect(self.url) as js:

            async def takes_a_stream() -> bool:
                await js.create("READY", ["ready"], num_replicas=len(self.servers))
                return True

            await eventually(takes_a_stream, within=within)
            await js.api("STREAM.DELETE.READY")

    async def leader(self, stream: str) -> NatsServer:
        """The server that leads a stream."""
        async with RawJetStream.connect(self.url) as js:
            info = await js.stream(stream)
        return self.servers[int(info["cluster"]["leader"].removeprefix("n")) - 1]

    def meta_leader(self) -> NatsServer:
        """The server that led JetStream when a server last logged who does."""
        found = [
            (line.partition("] ")[2], server)  # begins with the time
            for server in self.servers
            for line in server.log.read_text().splitlines()
            if "Self is new JetStream cluster metadata leader" in line
        ]
        return max(found, key=lambda each: each[0])[1]


@asynccontextmanager
async def apart(directory: Path) -> AsyncIterator[tuple[Cluster, dict[str, str]]]:
    """A cluster whose first server alone has `ORDERS`, and the second alone our own streams; with the time at which each was made."""
    cluster = Cluster(directory / "tagged")
    for number, server in enumerate(cluster.servers):
        server.config += f'\nserver_tags: ["t{number}"]\n'
    try:
        cluster.start()
        await cluster.ready()
        async with RawJetStream.connect(cluster.url) as js:
            await js.create("ORDERS", ["orders.*"], placement={"tags": ["t0"]})
            made = {
                name: (await js.api(f"STREAM.CREATE.{name}", {**config, "placement": {"tags": ["t1"]}}))[
                    "created"
                ]
                for name, config in STREAMS.items()
                if name != GATHER
            }
        yield cluster, made
    finally:
        cluster.stop()
