"""`runner status`: what waits for its next attempt or its time, and what is left of functions that are gone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.test_status import function
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

LATER = """
    import anyio

    from runner import Retry, consume

    @consume("orders.{{kind}}.{{id}}"{order})
    async def charge(body: bytes, kind: str) -> None:
        if kind == "later":
            raise Retry("the bank is closed", after=600)
        await anyio.sleep_forever()
"""
OTHERS = """
    from runner import consume

    @consume("orders.kept")
    async def kept(body: bytes) -> None: ...
"""
GONE = """
    @consume("orders.gone")
    async def gone(body: bytes) -> None: ...
"""


@pytest.fixture
async def project(make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream) -> Project:
    await js.create("ORDERS", ["orders.>"], allow_direct=True)
    return make_project(nats=nats_server.url)


def waits(project: Project, name: str = "charge") -> tuple[int, int, int]:
    """Pending, in flight, and what waits for its next attempt."""
    found = function(project.json("status"), name)
    return found["pending"], found["in_flight"], found["retrying"]


@pytest.mark.parametrize("order", ["", ', ordered_by="id"'], ids=["unordered", "ordered"])
async def test_what_waits_for_a_retry_is_not_in_flight(
    project: Project, js: RawJetStream, order: str
) -> None:
    project.function("shop", LATER.format(order=order))
    first = project.start("run")
    await first.seen("ready")
    for number in range(5):
        await js.publish(f"orders.{'later' if number < 3 else 'work'}.{number}", b"x")
    await eventually(lambda: waits(project) == (0, 2, 3))

    def is_shown() -> bool:
        heads, row, *_ = project.runner("status").stdout.replace("1 instance", "1").splitlines()
        told = dict(zip(heads.replace("IN FLIGHT", "FLIGHT").split(), row.split(), strict=False))
        return (told["FLIGHT"], told["RETRYING"]) == ("2", "3")

    await eventually(is_shown)
    first.kill()
    assert waits(project) == (0, 5, 0), "nobody knows which of them wait"
    second = project.start("run")
    await second.seen("ready")
    # What the killed instance had in work is delivered again after its lease; until then it waits for that.
    await eventually(lambda: waits(project) == (0, 2, 3), within=60)


async def test_what_is_left_of_a_function_that_is_gone_is_told(project: Project, js: RawJetStream) -> None:
    project.function("shop", OTHERS + GONE)
    runner = project.start("run")
    await runner.seen("ready")
    assert [each["gone"] for each in project.json("status")["functions"]] == [False, False]
    runner.terminate()
    await runner.ended()
    for _ in range(3):
        await js.publish("orders.gone", b"x")
    assert [each["gone"] for each in project.json("status")["functions"]] == [False, False]
    project.function("shop", OTHERS + "    print('a word of the user')\n")

    def left() -> dict[str, bool]:
        return {each["function"]: each["gone"] for each in project.json("status")["functions"]}

    assert left() == {"gone": True, "kept": False}
    said = project.runner("status").stderr
    assert (
        "gone is not a function of this project, and no instance runs it: 3 to run, 0 parked, 0 dead letters\n"
        in said
    )
    assert "it does not come back? runner function forget gone" in said
    await project.start("run").seen("ready")
    assert left() == {"gone": True, "kept": False}
    project.function("shop", "this is no Python")
    assert left() == {"gone": False, "kept": False}, "code that cannot be imported tells nothing"


async def test_an_instance_knows_functions_that_the_code_at_hand_does_not(project: Project) -> None:
    project.function("shop", OTHERS + GONE)
    await project.start("run").seen("ready")
    project.function("shop", OTHERS)
    await eventually(lambda: [each["gone"] for each in project.json("status")["functions"]] == [False, False])


async def test_delayed_publishes_are_counted(project: Project, js: RawJetStream) -> None:
    project.function("shop", OTHERS)
    await project.start("run").seen("ready")
    found: dict[str, Any] = project.json("status")
    assert found["delayed_publishes"] == 0
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    for number in range(2):
        headers = {"Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": "$JETRUNNER.due.shop"}
        await js.publish(f"$JETRUNNER.delayed.shop.{number}", b"x", headers)
        await js.publish(
            f"$JETRUNNER.delayed.other.{number}",
            b"x",
            headers | {"Nats-Schedule-Target": "$JETRUNNER.due.other"},
        )
    assert project.json("status")["delayed_publishes"] == 2
    assert "published with a delay, and not due yet: 2 messages" in project.runner("status").stderr


async def test_a_delayed_message_that_its_stream_refuses_is_shown_once_it_is_due(
    project: Project, js: RawJetStream
) -> None:
    project.function("shop", OTHERS)
    await js.create("PAID", ["paid.>"], max_msg_size=100)
    process = project.start("run")
    await process.seen("ready")
    assert project.json("status")["due_publishes"] == 0
    headers = {"Jetrunner-Delayed-Subject": "paid.late", "Jetrunner-Delayed-Msg-Id": "one"}
    await js.publish("$JETRUNNER.due.shop", b"x" * 1_000, headers)
    await process.seen("a delayed message to paid.late cannot be published yet: message size exceeds maximum")
    assert project.json("status")["due_publishes"] == 1
    told = project.runner("status").stderr
    assert "due, but not published yet: 1 message; the log of an instance says why" in told


@pytest.mark.parametrize(
    ("order", "durable"),
    [("", "shop-charge"), (', ordered_by="id"', "shop-charge-0-0")],
    ids=["unordered", "ordered"],
)
async def test_a_durable_that_somebody_has_paused_is_told_with_the_remedy(
    project: Project, js: RawJetStream, order: str, durable: str
) -> None:
    project.function("shop", LATER.format(order=order))
    process = project.start("run")
    await process.seen("ready")
    await eventually(lambda: js.consumer("ORDERS", durable))
    pause = f"CONSUMER.PAUSE.ORDERS.{durable}"
    await js.api(pause, {"pause_until": "2090-01-01T00:00:00Z"})
    await js.publish("orders.later.1", b"x")
    why = f"durable {durable} on ORDERS is paused until 2090-01-01T00:00:00Z: nats consumer resume ORDERS {durable}"
    await process.seen(f"warning .*{why}")
    assert f"charge: {why}\n" in project.runner("status").stderr
    await js.api(pause, {})
    await eventually(lambda: waits(project) == (0, 0, 1))
    await process.seen(f"durable {durable} on ORDERS is paused no more")
    assert "paused" not in project.runner("status").stderr
    assert process.output.count("is paused until") == 1
