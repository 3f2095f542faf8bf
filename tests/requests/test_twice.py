"""A request runs twice only where the instance that had it has said that it may."""

from __future__ import annotations

import asyncio

import pytest

from runner.client import App
from runner.errors import ServiceError, Unconfirmed
from tests.requests.conftest import Here, Instance
from tests.support.eventually import eventually
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.usefixtures("patient")]

NOT_IDEMPOTENT = {"quote.*": False}


async def deployed(app: App, instance: Here) -> tuple[asyncio.Task[object], Instance, Instance]:
    """A request that the old release works on while it ends; the new one says `idempotent=True`."""
    old = await instance("old", subjects=NOT_IDEMPOTENT)
    old.answer = old.silent
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    await eventually(lambda: bool(old.asked))
    new = await instance("new")
    await old.tell(gone=True)
    await old.client.flush()
    await eventually(lambda: [name for _, name in app._requester.directory.peers] == ["new"])
    return asking, old, new


async def test_a_failure_of_the_release_that_was_not_idempotent_is_told(app: App, instance: Here) -> None:
    asking, old, new = await deployed(app, instance)
    await old.error(500, "broken")(old.asked[0])
    with pytest.raises(ServiceError, match="broken"):
        await asking
    assert not new.asked


async def test_a_lost_connection_repeats_nothing_of_the_release_that_was_not_idempotent(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    asking, _, new = await deployed(app, instance)
    nats_server.restart()
    with pytest.raises(Unconfirmed, match="connection was lost"):
        await asking
    assert not new.asked


async def test_an_instance_that_ends_and_is_killed_leaves_nothing_to_the_idempotent_release(
    app: App, instance: Here
) -> None:
    asking, old, new = await deployed(app, instance)
    await old.close()
    assert await app.request("quote.2", None) == "new"
    await old.asked[0].respond(b'"old"')
    assert await asking == "old"
    assert len(new.asked) == 1


async def test_a_failure_is_not_repeated_by_a_release_that_is_no_more_idempotent(
    app: App, instance: Here
) -> None:
    old = await instance("old")
    old.answer = old.silent
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    await eventually(lambda: bool(old.asked))
    new = await instance("new", subjects=NOT_IDEMPOTENT)
    await eventually(lambda: len(app._requester.directory.peers) == 2)
    await old.error(500, "broken")(old.asked[0])
    with pytest.raises(ServiceError, match="broken"):
        await asking
    assert not new.asked
