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
    assert 0 < charge["p50"] <= charge["p99"] < 1
    assert (refuse["failures"], refuse["availability"], refuse["handled"]) == (3, 0.0, 3)
    assert (wait["pending"], wait["availability"]) == (2, None)
    lines = project.runner("status").stdout.splitlines()
    assert lines[0].split()[:3] == ["FUNCTION", "INSTANCE", "PENDING"]
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == ["charge", "refuse", "wait"]
    assert len(lines) == 1 + 3 * 3


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
