"""What is recorded of a suspect's start, as the bucket's leader has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.engine.suspects import Suspects
from runner.jetstream import ownstreams
from runner.jetstream.bucket import Bucket
from tests.server.conftest import Connects
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

DENIED = 'authorization {{ users: [ {{ user: app, password: a, permissions: {{ publish: {{ deny: "{}" }} }} }} ] }}'
REPLICAS = "$JS.API.DIRECT.GET.KV_jetrunner.>"
LEADER = "$JS.API.STREAM.MSG.GET.KV_jetrunner"


@pytest.mark.parametrize("denied", [REPLICAS, LEADER], ids=["by-leader", "by-replica"])
async def test_a_start_is_read_from_the_leader_and_from_a_replica_only_where_the_leader_may_not_be_asked(
    make_server: Callable[..., NatsServer], connected: Connects, denied: str
) -> None:
    server = make_server(DENIED.format(denied))
    async with connected(server.url_as("app", "a")) as connection:
        await ownstreams.ensure(connection, ownstreams.BUCKET_STREAM)
        suspects = Suspects(Bucket(connection), "shop", "charge")
        assert await suspects.stage("ORDERS", 7) == 0
        for stage in (1, 2, 3):
            await suspects.record("ORDERS", 7, stage)
            assert await suspects.stage("ORDERS", 7) == stage
        assert await suspects.stage("ORDERS", 70) == 0
        await suspects.drop("ORDERS", 7)
        assert await suspects.stage("ORDERS", 7) == 0


async def test_a_bucket_that_was_deleted_holds_nothing_against_a_message_and_is_there_again(
    nats_server: NatsServer, connected: Connects, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection:
        suspects = Suspects(Bucket(connection), "shop", "charge")
        assert await suspects.stage("ORDERS", 7) == 0
        await suspects.record("ORDERS", 7, 1)
        assert await suspects.stage("ORDERS", 7) == 1
    assert [each.subject for each in await js.messages("KV_jetrunner")] == [
        "$KV.jetrunner.start.shop.charge.ORDERS.7"
    ]
