"""What a server refuses while a process starts: our streams that stand are taken as they are, all else is named, with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runner.jetstream.ownstreams import GATHER, STREAMS
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

MINUTES = 60 * 10**9
CHARGE = """
    from runner import consume

    @consume("orders.*")
    async def charge(order: dict) -> None: ...
"""


def account(limits: str) -> str:
    """An account with these limits, in which everybody is."""
    return f"accounts {{ A {{ jetstream: {{ {limits} }}, users: [{{user: a, password: a}}] }} }}\nno_auth_user: a"


BYTES_REQUIRED = account("max_file: 100MB, max_mem: 10MB, max_bytes_required: true")
SHORT_WINDOW = 'jetstream { store_dir: "STORE", limits { duplicate_window: "5m" } }'


class World:
    """A server with a stream of orders, and a project that reads it."""

    def __init__(self, server: NatsServer, project: Project, js: RawJetStream) -> None:
        self.server, self.project, self.js = server, project, js

    async def made_beforehand(self, **limits: Any) -> None:
        """All of our own streams, as an operator makes them."""
        for name, config in STREAMS.items():
            if name != GATHER:
                await self.js.api(f"STREAM.CREATE.{name}", {**config, "num_replicas": 1, **limits})

    async def ready(self) -> RunnerProcess:
        """A process that has started."""
        process = self.project.start("run")
        await process.seen("ready: ")
        return process

    async def refused(self) -> str:
        """What a process says that does not start."""
        process = self.project.start("run")
        assert await process.ended(within=60) == 1
        return process.output


@pytest.fixture
async def world(
    request: pytest.FixtureRequest,
    make_server: Callable[..., NatsServer],
    make_project: Callable[..., Project],
) -> Any:
    """By the server's configuration, which is the parameter."""
    server = make_server()
    server.stop()
    server.start(request.param.replace("STORE", str(server.store)))
    async with RawJetStream.connect(server.url) as js:
        yield World(server, make_project(functions={"orders": CHARGE}, nats=server.url), js)


@pytest.mark.parametrize(
    ("world", "limits"),
    [(BYTES_REQUIRED, {"max_bytes": 1_000_000}), (SHORT_WINDOW, {"duplicate_window": 2 * MINUTES})],
    ids=["max-bytes-required", "short-duplicate-window"],
    indirect=["world"],
)
async def test_our_streams_that_stand_are_enough_where_the_server_would_take_no_new_ones(
    world: World, limits: dict[str, Any]
) -> None:
    await world.js.create("ORDERS", ["orders.*"], **limits)
    await world.made_beforehand(**limits)
    before = {name: (await world.js.stream(name))["config"] for name in STREAMS if name != GATHER}
    await world.ready()
    assert {name: (await world.js.stream(name))["config"] for name in before} == before


@pytest.mark.parametrize(
    ("world", "limits", "says", "hint"),
    [
        (BYTES_REQUIRED, {"max_bytes": 1_000_000}, "stream config to have max bytes set", "make JETRUNNER with max_bytes"),
        (SHORT_WINDOW, {"duplicate_window": 2 * MINUTES}, "duplicates window can not be larger", "make JETRUNNER with a shorter duplicate_window"),
        (account("max_streams: 1"), {}, "maximum number of streams reached", "raise max_streams of the account"),
    ],
    ids=["max-bytes-required", "short-duplicate-window", "max-streams"],
    indirect=["world"],
)  # fmt: skip
async def test_one_of_our_streams_that_cannot_be_made_is_named_with_its_remedy(
    world: World, limits: dict[str, Any], says: str, hint: str
) -> None:
    await world.js.create("ORDERS", ["orders.*"], **limits)
    output = await world.refused()
    assert "error: stream JETRUNNER cannot be created: " in output
    assert says in output
    assert f"hint: {hint}" in output


@pytest.mark.parametrize("world", [account("max_consumers: 1")], ids=["max-consumers"], indirect=True)
async def test_a_durable_of_the_relay_that_cannot_be_made_is_named_with_its_remedy(world: World) -> None:
    await world.js.create("ORDERS", ["orders.*"], max_consumers=1)
    output = await world.refused()
    assert "durable shop--relay on JETRUNNER: maximum consumers limit reached" in output
    assert "hint: raise max_consumers of the stream, or of the account" in output


WITHOUT = "accounts { A { users: [{user: a, password: a}] } }\nno_auth_user: a"


@pytest.mark.parametrize("world", [WITHOUT], ids=["no-jetstream"], indirect=True)
async def test_an_account_without_jetstream_is_told_with_its_remedy(world: World) -> None:
    output = await world.refused()
    assert "JetStream not enabled for account" in output
    assert "hint: start nats-server with -js, or enable it for the account" in output
