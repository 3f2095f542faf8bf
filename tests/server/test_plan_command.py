"""`runner plan` and `runner apply` as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.anyio

ORDERS = """
name = "ORDERS"
subjects = ["orders.{customer}.*"]
max_age = "7d"
"""
CHARGE = """
from runner import consume

@consume("orders.{customer}.created", output="orders.{customer}.charged")
async def charge(order: dict, customer: str) -> dict:
    return order
"""


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"orders": CHARGE}, streams={"orders": ORDERS}, nats=nats_server.url)


async def test_plan_shows_what_apply_then_does_once(project: Project, js: RawJetStream) -> None:
    planned = project.runner("plan")
    assert planned.code == 0, planned.stderr
    assert "+ stream ORDERS (streams/orders.toml)" in planned.stdout
    assert '    + subjects = ["orders.*.*", "_jetrunner.ORDERS.>"]' in planned.stdout
    assert "    + max_age = 7d" in planned.stdout
    assert "+ consumer shop-charge on ORDERS: charge reads orders.*.created" in planned.stdout
    assert "streams: 1 to create" in planned.stderr

    applied = project.runner("apply")
    assert applied.code == 0, applied.stderr
    assert "+ stream ORDERS" in applied.stdout
    assert "streams: 1 created" in applied.stderr
    assert await js.streams() == ["ORDERS"]

    again = project.runner("apply")
    assert (again.code, again.stdout) == (0, "")
    assert "streams: 1 as declared" in again.stderr


async def test_a_safe_change_shows_old_and_new(project: Project) -> None:
    assert project.runner("apply").code == 0
    project.stream("orders", ORDERS.replace("7d", "14d"))
    planned = project.runner("plan")
    assert "~ stream ORDERS (streams/orders.toml)\n    ~ max_age: 7d → 14d\n" in planned.stdout
    assert project.runner("apply").code == 0


async def test_an_unsafe_change_is_shown_by_plan_and_refused_by_apply(
    project: Project, js: RawJetStream
) -> None:
    assert project.runner("apply").code == 0
    project.stream("orders", ORDERS + 'storage = "memory"\n')
    planned = project.runner("plan")
    assert planned.code == 1
    assert '! storage: "file" → "memory": the server cannot change the storage of a stream' in planned.stdout
    applied = project.runner("apply")
    assert (applied.code, applied.stdout) == (1, "")
    assert "error: nothing was applied" in applied.stderr
    assert "hint: " in applied.stderr
    assert (await js.stream("ORDERS"))["config"]["storage"] == "file"


async def test_json_is_one_document(project: Project) -> None:
    plan = project.json("plan")
    (stream,) = plan["streams"]
    assert (stream["name"], stream["action"], stream["file"]) == ("ORDERS", "create", "streams/orders.toml")
    assert {"field": "max_age", "real": None, "declared": 604800 * 10**9, "safety": "create", "why": ""} in (
        stream["changes"]
    )
    assert [consumer["name"] for consumer in plan["consumers"]] == ["shop-charge"]
    assert json.dumps(project.json("apply")["streams"]) == json.dumps(plan["streams"])


async def test_a_function_without_a_stream_is_an_error_and_nothing_is_applied(
    project: Project, js: RawJetStream
) -> None:
    project.function("orders", CHARGE.replace('"orders.{customer}.created"', '"order.{customer}.created"'))
    for command in ("plan", "apply"):
        done = project.runner(command)
        assert done.code == 1
        assert "no stream captures order.*.created" in done.stderr
        assert "hint: streams/orders.toml comes nearest" in done.stderr
    assert await js.streams() == []


async def test_a_typo_in_a_file_is_told_before_nats_is_asked(project: Project) -> None:
    project.stream("orders", ORDERS + 'max_msg = "7"\n')
    done = project.runner("plan", "--nats-url", "nats://127.0.0.1:1")
    assert done.code == 2
    assert "streams/orders.toml:5: max_msg: no such field; did you mean" in done.stderr


async def test_without_nats_the_exit_is_3(project: Project) -> None:
    assert project.runner("plan", "--nats-url", "nats://127.0.0.1:1").code == 3
