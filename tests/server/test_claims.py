"""Claims that stand in the bucket and that their owner does not hold."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable

import pytest
from nats.aio.msg import Msg

from tests.support.jetstream import RawJetStream
from tests.support.ledger import Ledger, streams
from tests.support.order import source
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.tenures import CLAIMS

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.timeout(90)]


async def test_a_claim_that_its_owner_does_not_hold_keeps_no_resize_waiting(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """As it is left by one whose claim was written while the server went away, when its generation has closed since."""
    project = make_project(
        functions={"ledger": source(failing=0.0, pause=4.0)}, streams=streams(4), nats=nats_server.url
    )
    await project.applied()
    ledger = Ledger(project, nats_server.url, js, random.Random(3))
    released: asyncio.Queue[str] = asyncio.Queue()
    owners: dict[str, str] = {}

    async def heard(message: Msg) -> None:
        shard, claim = message.subject.removeprefix(CLAIMS), json.loads(message.data)
        if claim["owner"]:
            owners[shard] = claim["owner"]
        elif shard.startswith("1."):
            released.put_nowait(shard)

    await js.client.subscribe(CLAIMS + ">", cb=heard)
    await js.client.flush()
    ledger.add()
    await ledger.owning(4)
    for number in range(12):  # handlers that run for a while keep the generation from being left at once
        await ledger.post(number, 12)
    resize = project.start("shard", "resize", "LEDGER", "8")
    shard = await asyncio.wait_for(released.get(), 20)
    entry = await js.api("STREAM.MSG.GET.KV_jetrunner", {"last_by_subj": CLAIMS + shard})
    left = {"owner": owners[shard], "epoch": 7, "since": time.time(), "before": []}
    expected = {"Nats-Expected-Last-Subject-Sequence": str(entry["message"]["seq"])}
    await js.publish(CLAIMS + shard, left, expected)
    try:
        assert await resize.ended(within=30) == 0
    except AssertionError as error:
        raise AssertionError(f"{error}\n{resize.output}\n{await ledger.shards()}") from None
    await ledger.post(100, 12)
    await ledger.settled(within=20)
    await ledger.close()
    await ledger.judge()
    assert not ledger.problems, ledger.explain()
