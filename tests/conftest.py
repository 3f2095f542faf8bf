"""Fixtures that every folder of tests may ask for; each one ends what it started."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from tests.support.certificates import Certificates
from tests.support.cluster import Cluster
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer, skip_before

# Compiling all tests and all packages anew takes 8 s of CPU in each process of tests, and 0.2 s in each that they start.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How long an example takes says nothing on a machine that others use, too.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@settings(max_examples=1, database=None)
@given(strategies.none())
def _begin_to_draw(_: None) -> None: ...


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Have the garbage collector pass over what was collected: to look at it again and again is a tenth of a process's CPU."""
    gc.disable()
    yield
    _begin_to_draw()  # hypothesis looks for whoever refers to its generator, and would find nobody among what is passed over
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests that are marked `thorough` to `just thorough`."""
    if not config.getoption("--long", default=False):
        thorough = [item for item in items if item.get_closest_marker("thorough")]
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=thorough)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what an older nats-server cannot do: `@pytest.mark.since("2.14", "schedules")`."""
    for mark in item.iter_markers("since"):
        skip_before(*mark.args)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The runner runs on asyncio alone."""
    return "asyncio"


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., NatsServer]]:
    """Start servers: `make_server(config="authorization { … }", port=…)`."""
    with ExitStack() as stack:
        count = 0

        def make(config: str = "", *, port: int | None = None) -> NatsServer:
            nonlocal count
            count += 1
            server = NatsServer(tmp_path / f"nats-{count}", config, port=port)
            stack.callback(server.kill)
            return server.start()

        yield make


@pytest.fixture
def nats_server(make_server: Callable[..., NatsServer]) -> NatsServer:
    """A fresh nats-server with an empty store."""
    return make_server()


@pytest.fixture
async def js(nats_server: NatsServer) -> AsyncIterator[RawJetStream]:
    """A raw connection to `nats_server`, for publishing and for assertions."""
    async with RawJetStream.connect(nats_server.url) as raw:
        yield raw


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three servers with a leader, ready for R3 streams."""
    three = Cluster(tmp_path / "cluster")
    try:
        three.start()
        await three.ready()
        yield three
    finally:
        three.stop()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Certificates for a TLS server and its clients."""
    return Certificates(tmp_path / "certificates")


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Write projects: `make_project(functions={"orders": SOURCE}, streams={"orders": TOML}, nats=nats_server.url)`."""
    with ExitStack() as stack:
        count = 0

        def make(**parts: Any) -> Project:
            nonlocal count
            count += 1
            project = Project(tmp_path / f"project-{count}", **parts)
            stack.callback(project.close)
            return project

        yield make
