"""Three nats-servers that form one JetStream cluster."""

from __future__ import annotations

from pathlib import Path

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.server import NatsServer


class Cluster:
    """Servers `n1`, `n2` and `n3`; each may be stopped, killed, frozen and restarted by itself."""

    def __init__(self, directory: Path, config: str = "", *, size: int = 3) -> None:
        routes = [free_port() for _ in range(size)]
        self.servers: list[NatsServer] = []
        for number, route in enumerate(routes, start=1):
            others = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes if other != route)
            text = (
                f"server_name: n{number}\n"
                f"cluster {{ name: test, listen: 127.0.0.1:{route}, routes: [{others}] }}\n"
                f"{config}"
            )
            self.servers.append(NatsServer(directory / f"n{number}", text))

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

    async def ready(self, *, within: float = 20.0) -> None:
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
