"""A server that the tests of a module share, each under subjects of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import NatsServer


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats")).start()
    yield server
    server.kill()


@pytest.fixture
def nats_url(shared_server: NatsServer) -> str:
    return shared_server.url
