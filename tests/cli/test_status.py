"""`runner status`: functions and instances, as the server and they themselves tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server

SHOP = """
    import anyio

    from runner import Reject, consume

    @consume("orders.ok")
    async def charge(body: bytes) -> None: ...

    @consume("orders.bad")
    async def refuse(body: bytes) -> None:
        raise Reject("no")

    @consume("orders.slow", concurrency=2)
    async def wait(body: bytes) -> None:
        await anyio.sleep_forever()
"""


def function(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (each for each in document["functions"] if each["function"] == name)
    return dict(found)


async def test_each_function_is_measured_over_its_instances(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.*"])
    project = make_project(functions={"shop": SHOP}, nats=nats_server.url)
    runner = project.start("run", "--workers", "2")
    await runner.seen("worker 1 of 2 is ready")
    await runner.seen("worker 2 of 2 is ready")
    for kind, count in (("ok", 10), ("bad", 3), ("slow", 6)):
        for _ in range(count):
            await js.publish(f"orders.{kind}", b"x")

    def settled() -> dict[str, Any]:
        document: dict[str, Any] = project.json("status")
        assert function(document, "charge")["acked"] == 10
        assert function(document, "refuse")["dead_letters"] == 3
        assert function(document, "wait")["in_flight"] == 4
        return document

    document = await eventually(settled)
    assert document["project"] == "shop"
    assert len(document["instances"]) == 2
    assert all(instance["uptime"] > 0 for instance in document["instances"])
    charge, refuse, wait = (function(document, name) for name in ("charge", "refuse", "wait"))
    assert sum(each["acked"] for each in charge["instances"]) == 10
    assert (charge["stream"], charge["durable"], charge["availability"]) == ("ORDERS", "shop-charge", 1.0)
    assert 0 < charge["p50"] < 6
    assert charge["p50"] <= charge["p99"] < 6, "one of the ten may stand still with its process"
    assert (refuse["failures"], refuse["availability"], refuse["handled"]) == (3, 0.0, 3)
    assert (wait["pending"], wait["availability"]) == (2, None)

    def shown() -> tuple[list[str], list[str]]:  # an instance that stands still for a second is left out
        lines, _, hour = (part.splitlines() for part in project.runner("status").stdout.partition("\n\n"))
        assert len(lines) == 1 + 3 * 3
        return lines, hour

    lines, hour = await eventually(shown)
    assert [line.split()[0] for line in hour] == ["LAST", "charge", "refuse"]
    assert lines[0].split()[:3] == ["FUNCTION", "INSTANCE", "PENDING"]
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == ["charge", "refuse", "wait"]


LEDGER = """
    name = "LEDGER"
    subjects = ["ledger.{account}.*"]
    [shards]
    count = 4
    by = ["account"]
"""
POST = """
    import anyio

    from runner import consume

    @consume("ledger.{account}.posted", ordered_by="account", concurrency=2)
    async def post(body: bytes) -> None:
        await anyio.sleep(0.02)
        if body == b"stays":
            await anyio.sleep_forever()
"""
ROOM = 16
"""Messages of one shard that are here at once, where none waits behind another of its key."""


async def test_the_shards_of_an_ordered_function_are_summed_over_its_instances(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(functions={"ledger": POST}, streams={"ledger": LEDGER}, nats=nats_server.url)
    assert project.runner("apply").code == 0
    left = {"durable_name": "shop-post", "ack_policy": "explicit"}  # of a time before it was ordered
    await js.api("CONSUMER.CREATE.LEDGER.shop-post", {"stream_name": "LEDGER", "config": left})
    runners = [project.start("run") for _ in range(2)]

    def shared() -> bool:
        owners = [shard["owner"] for shard in project.json("shard", "list")["shards"]]
        return len(owners) == 4 and None not in owners and sorted(map(owners.count, set(owners))) == [2, 2]

    await eventually(shared)
    for number in range(40):
        await js.publish(f"ledger.k{number}.posted", b"goes")

    def post() -> dict[str, Any]:
        return function(project.json("status"), "post")

    await eventually(lambda: post()["acked"] == 40)
    done = post()
    for number in range(200):
        await js.publish(f"ledger.s{number}.posted", b"stays")

    def full() -> dict[str, Any]:
        found = post()
        assert sorted(each["in_flight"] for each in found["instances"]) == [2 * ROOM, 2 * ROOM]
        return found

    found = await eventually(full)
    assert (found["stream"], found["durable"], found["availability"]) == ("LEDGER", "shop-post", 1.0)
    assert (found["pending"], found["in_flight"]) == (200 - 4 * ROOM, 4 * ROOM)
    assert sum(each["acked"] for each in found["instances"]) == found["acked"] == found["handled"] == 40
    assert min(each["acked"] for each in found["instances"]) > 0
    assert done["rate"] == pytest.approx(sum(each["rate"] for each in done["instances"]), abs=0.01)
    assert done["rate"] > 0
    assert 0.017 < found["p50"] < 6  # the histogram is 12% wide
    assert found["p50"] <= found["p99"] < 6, "some of the forty may stand still with their process"
    resized = project.runner("shard", "resize", "LEDGER", "6", "--no-wait")
    assert resized.code == 0, resized.stderr
    for number in range(7):
        await js.publish(f"ledger.k{number}.posted", b"goes")
    await js.publish("ledger.k1.refused", b"of no interest")
    await eventually(lambda: (post()["pending"], post()["in_flight"]) == (200 - 4 * ROOM + 7, 4 * ROOM))
    for runner in runners:
        runner.kill()
    left_alone = post()
    assert (left_alone["pending"], left_alone["in_flight"]) == (200 - 4 * ROOM + 7, 4 * ROOM)
    assert left_alone["instances"] == []
    await js.api("STREAM.DELETE.KV_jetrunner")
    assert post()["pending"] == 200 - 4 * ROOM, "what is kept of the generations is gone"


async def test_without_instances_the_server_still_tells_what_waits(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.*"])
    project = make_project(functions={"shop": SHOP}, nats=nats_server.url)
    empty = project.runner("status")
    assert (empty.code, empty.stdout) == (0, "")
    assert "no function of shop has run yet" in empty.stderr
    config = {"durable_name": "shop-charge", "filter_subject": "orders.ok", "ack_policy": "explicit"}
    await js.api("CONSUMER.CREATE.ORDERS.shop-charge", {"stream_name": "ORDERS", "config": config})
    await js.publish("orders.ok", b"x")
    document = project.json("status")
    assert document["instances"] == []
    assert function(document, "charge")["pending"] == 1
    assert "no instance runs" in project.runner("status").stderr


def test_outside_of_a_project_there_is_nothing_to_ask_for(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(nats=nats_server.url)
    (project.root / "pyproject.toml").unlink()
    done = project.runner("status")
    assert done.code == 2
    assert "error: there is no project here" in done.stderr
