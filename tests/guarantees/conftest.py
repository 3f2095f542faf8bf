"""Every guarantee is shown on a shop of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop


@pytest.fixture
def shop(nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]) -> Shop:
    """A shop on a fresh server."""
    return Shop(js, nats_server.url, make_project)
