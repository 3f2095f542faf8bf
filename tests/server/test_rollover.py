"""Generations: what a step writes of a function's generation, on a real server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from runner.cluster.claims import Claims
from runner.cluster.rollover import OrderedReader, Rollover
from runner.config import Settings
from runner.core.generation import OpenGeneration
from runner.core.lease import CLAIMS_SECONDS
from runner.errors import NoStream
from runner.jetstream import ownstreams, reshard
from runner.jetstream.connection import Connection, connect
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

READER = OrderedReader("post", "LEDGER", "ledger.*.posted", keys=(1,))


def nobody_is_gone(_owner: str, _revision: int) -> bool:
    return False


@pytest.fixture
async def connection(nats_server: NatsServer, js: RawJetStream) -> AsyncIterator[Connection]:
    transform = {"src": "ledger.*.posted", "dest": "shard.1.{{partition(2,1)}}.ledger.{{wildcard(1)}}.posted"}
    metadata = {"jetrunner.shards": "2", "jetrunner.generation": "1"}
    await js.create("LEDGER", ["ledger.*.posted"], subject_transform=transform, metadata=metadata)
    async with connect(Settings(nats_url=nats_server.url)) as live:
        await ownstreams.ensure(live, ownstreams.BUCKET_STREAM)
        yield live


async def opened(turnover: Rollover) -> OpenGeneration:
    found = await turnover.step(READER, nobody_is_gone)
    assert found is not None
    return found


async def test_turns_do_not_go_back_with_a_bucket_that_was_lost(
    connection: Connection, js: RawJetStream
) -> None:
    """A claim that its owner writes again keeps the turn it was sealed at: with a lower one it could not be taken."""
    first = await opened(Rollover(connection, "shop"))
    await js.api("STREAM.PURGE.KV_jetrunner")
    second = await opened(Rollover(connection, "shop"))
    assert second.turn >= first.turn >= int(time.time()) - 60


async def test_what_cannot_be_removed_of_older_generations_hides_no_opening(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise NoStream("no answer came")

    monkeypatch.setattr(reshard, "remove_older", refuse)
    assert (await opened(Rollover(connection, "shop"))).generation == 1


async def test_a_claim_that_the_bucket_has_lost_is_not_sealed_before_its_owner_has_had_time_to_find_out(
    connection: Connection, js: RawJetStream
) -> None:
    await opened(Rollover(connection, "shop"))
    await js.api("STREAM.PURGE.KV_jetrunner", {"filter": "$KV.jetrunner.claim.>"})
    claims, began = Claims(connection, "shop"), time.monotonic()

    async def sealed() -> bool:
        return await claims.seal("post", 1, 2, 1, nobody_is_gone)

    await eventually(sealed)
    assert time.monotonic() - began > CLAIMS_SECONDS
