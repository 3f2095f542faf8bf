"""`runner doctor`: each thing that will hurt is told on a server that has it, and nothing on a clean one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.since("2.14", "schedules")]

FUNCTIONS = """
    from runner import Context, RetryPolicy, consume, cron, gather

    @consume("orders.{customer}", output="paid.{customer}", retry=RetryPolicy.fixed(60.0, attempts=5))
    async def charge(order: dict, customer: str) -> dict:
        return order

    @consume("paid.{customer}", ordered_by="customer")
    async def post(paid: dict, customer: str) -> None: ...

    @gather("paid.{customer}.line")
    async def join(lines: list[dict], ctx: Context) -> None: ...

    @cron("0 3 * * *")
    async def nightly(ctx: Context) -> None: ...
"""
ORDERS = 'name = "ORDERS"\nsubjects = ["orders.*"]\n'
PAID = 'name = "PAID"\nsubjects = ["paid.*", "paid.*.line"]\n'


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(
        functions={"shop": FUNCTIONS}, streams={"orders": ORDERS, "paid": PAID}, nats=nats_server.url
    )


def found(project: Project, code: int) -> dict[str, dict[str, str]]:
    """By what was found."""
    return {each["what"]: each for each in project.json("doctor", code=code)["findings"]}


async def started(project: Project) -> None:
    """Everything stands that a running process makes, and nothing runs."""
    await project.applied()
    process = project.start("run")
    await process.seen("ready")
    process.terminate()
    await process.ended()


async def test_nothing_is_told_on_a_clean_server_before_and_after_a_run(
    project: Project, js: RawJetStream
) -> None:
    await project.applied()
    assert found(project, 0) == {}
    await started(project)
    before = {name: await js.count(name) for name in await js.streams()}
    assert found(project, 0) == {}
    assert {name: await js.count(name) for name in await js.streams()} == before, "it changes nothing"
    done = project.runner("doctor")
    assert (done.code, done.stdout, done.stderr) == (0, "", "all well\n")


@pytest.mark.parametrize(
    ("stream", "config", "what", "severity"),
    [
        ("ORDERS", {"max_age": 100 * 10**9}, "ORDERS: max_age = 1m40s", "hurts"),
        ("ORDERS", {"retention": "workqueue"}, 'ORDERS: retention = "workqueue"', "may hurt"),
        ("ORDERS", {"retention": "interest"}, 'ORDERS: retention = "interest"', "may hurt"),
        ("ORDERS", {"storage": "memory"}, 'ORDERS: storage = "memory"', "may hurt"),
        ("ORDERS", {"max_msgs_per_subject": 1}, "ORDERS: max_msgs_per_subject = 1", "may hurt"),
        ("PAID", {"max_msgs_per_subject": 1}, "PAID: max_msgs_per_subject = 1", "hurts"),
        ("PAID", {"retention": "workqueue"}, 'PAID: retention = "workqueue"', "hurts"),
        ("PAID", {"duplicate_window": 100 * 10**9}, "PAID: duplicate_window = 1m40s", "hurts"),
        ("PAID", {"no_ack": True}, "PAID: no_ack = true", "hurts"),
    ],
)
async def test_what_a_stream_does_to_its_functions_is_told(
    project: Project, js: RawJetStream, stream: str, config: dict[str, Any], what: str, severity: str
) -> None:
    window = {"duplicate_window": 900 * 10**9} if config.get("max_age") is None else {}
    for name, subjects in (("ORDERS", ["orders.*"]), ("PAID", ["paid.*", "paid.*.line"])):
        mine = config if name == stream else {}
        await js.create(name, subjects, **{**window, **mine})
    told = found(project, 1 if severity == "hurts" else 0)
    assert told[what]["severity"] == severity
    assert told[what]["check"] == "stream"
    assert {each["severity"] for each in told.values()} <= {severity, "may hurt"}
    assert all(each["meaning"] and each["remedy"] for each in told.values())


@pytest.mark.parametrize("discard", ["new", "old"])
async def test_a_stream_that_is_nearly_full_is_told(project: Project, js: RawJetStream, discard: str) -> None:
    window = {"duplicate_window": 900 * 10**9}
    await js.create("ORDERS", ["orders.*"], max_msgs=10, discard=discard, **window)
    await js.create("PAID", ["paid.*", "paid.*.line"], **window)
    assert found(project, 0) == {}
    for number in range(9):
        await js.publish(f"orders.{number}", b"{}")
    told = found(project, 1)["ORDERS: 9 of 10 messages"]
    assert ("refuses" in told["meaning"]) == (discard == "new")


@pytest.mark.parametrize(
    ("change", "what", "code"),
    [
        ({"max_deliver": 3}, "shop-charge: max_deliver = 3", 1),
        ({"max_ack_pending": 2}, "shop-charge: max_ack_pending = 2", 0),
        ({"inactive_threshold": 3600 * 10**9}, "shop-charge: inactive_threshold = 3600 s", 1),
    ],
)
async def test_what_a_durable_does_to_its_function_is_told(
    project: Project, js: RawJetStream, change: dict[str, Any], what: str, code: int
) -> None:
    await started(project)
    config = (await js.api("CONSUMER.INFO.ORDERS.shop-charge"))["config"]
    ask = {"stream_name": "ORDERS", "config": config | change, "action": "update"}
    await js.api("CONSUMER.CREATE.ORDERS.shop-charge", ask)
    assert what in found(project, code)


async def test_what_a_function_that_is_gone_has_left_is_told(project: Project) -> None:
    await started(project)
    project.function("shop", FUNCTIONS.replace("nightly", "daily").replace("def join", "def joined"))
    told = found(project, 0)
    assert {each["remedy"].partition(";")[0] for each in told.values()} == {
        "runner function forget nightly",
        "runner function forget join",
    }
    assert "no function is called nightly, and there is of it: 1 durable, 1 schedule" in told


async def test_a_right_that_is_not_granted_is_told_each_for_itself(
    project: Project, make_server: Callable[..., NatsServer]
) -> None:
    await started(project)
    allowed = make_server(
        "authorization { users = [{ user: runner, password: pw, permissions: { publish: { deny: "
        '["deadletters.>", "$JS.API.STREAM.PURGE.JETRUNNER"] } } }] }'
    )
    project.environment["NATS_URL"] = allowed.url.replace("nats://", "nats://runner:pw@")
    await started(project)
    told = found(project, 1)
    assert [each["check"] for each in told.values()] == ["rights"] * len(told)
    subjects = {what.rpartition(" ")[2] for what in told}
    assert "$JS.API.STREAM.PURGE.JETRUNNER" in subjects
    assert any(each.startswith("deadletters.") for each in subjects)
    assert all(each.startswith(("deadletters.", "$JS.API.STREAM.PURGE.JETRUNNER")) for each in subjects)


async def test_text_has_a_line_for_each_of_what_it_means_and_its_remedy(
    project: Project, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.*"], max_age=100 * 10**9)
    await js.create("PAID", ["paid.*", "paid.*.line"], duplicate_window=900 * 10**9)
    done = project.runner("doctor")
    assert done.code == 1
    assert done.stdout.startswith(
        "hurts: stream: ORDERS: max_age = 1m40s\n"
        "    means: charge may try a message for 6m: by then it is gone, without a dead letter\n"
        "    remedy: raise max_age over 6m, or lower retry= of charge\n"
    )
    assert done.stderr == "1 thing will hurt, 0 things may\n"
