"""Every guarantee is shown on a shop of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.forked import Forks
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop


@pytest.fixture
def shop(nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]) -> Shop:
    """A shop on a fresh server."""
    return Shop(js, nats_server.url, make_project)


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    """Commands of the runner, each in a fork of one process that has imported it."""
    with Forks(tmp_path / "said") as forks:
        yield forks
