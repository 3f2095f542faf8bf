"""Where the stream of kept errors cannot be made, that is tried once a minute, told once, and what is not kept is counted."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import pytest

from runner.core.kepterror import KeptError
from runner.jetstream import ownstreams
from runner.jetstream.ownstreams import AGAIN
from runner.runtime.kepterrors import KeptErrors
from tests.server.conftest import Connects
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

DENIED = """authorization { users: [
    {user: admin, password: a},
    {user: app, password: a, permissions: {publish: {deny: ["$JS.API.STREAM.CREATE.>"]}}}
] }"""
FULL = """accounts { A: {
    jetstream: {max_mem: 1M, max_file: 64M, max_streams: 1},
    users: [ {user: admin, password: a}, {user: app, password: a} ]
} }"""
CREATE = "$JS.API.STREAM.CREATE.JETRUNNER_ERRORS"


@pytest.mark.parametrize(("config", "tries"), [(DENIED, 0), (FULL, 1)], ids=["not allowed", "no room"])
async def test_a_stream_that_cannot_be_made_is_tried_for_and_told_of_once(
    config: str,
    tries: int,
    make_server: Callable[..., NatsServer],
    connected: Connects,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server(config)
    asked: list[str] = []

    async def note(message: object) -> None:
        asked.append(getattr(message, "subject"))  # noqa: B009  nats-py's type is not ours

    async with connected(server.url_as("admin", "a")) as admin, connected(server.url_as("app", "a")) as app:
        await ownstreams.ensure(admin, AGAIN)
        await admin.client.subscribe(CREATE, cb=note)
        await admin.client.flush()
        with caplog.at_level(logging.WARNING):
            async with anyio.create_task_group() as tasks:
                kept = KeptErrors(app, "shop", tasks)
                for sequence in range(1, 31):
                    assert kept.admit("charge")
                    kept.keep("charge", "ORDERS", sequence, an_error())
            assert not kept.admit("charge")
        await app.client.flush()
        await admin.client.flush()
    assert kept.unkept["charge"] == 31
    assert asked == [CREATE] * tries
    assert [each.levelname for each in caplog.records if "kept" in each.message] == ["WARNING"]
    assert not [each for each in caplog.records if "no permission to create" in each.message]


def an_error() -> KeptError:
    return KeptError(stored=1, attempt=1, attempts=3, time=1.0, due=2.0, error="ValueError", message="no")
