"""`runner check --explain`: what is promised for one function, in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.project import Project

FUNCTIONS = """
    from runner import Context, RetryPolicy, consume, cron, gather

    @consume("orders.{customer}", output="lines.{customer}", ordered_by="customer", on_exhausted="park")
    async def split(order: dict):
        yield order

    @consume("lines.{customer}", executor="process", retry=RetryPolicy.fixed(5.0, attempts=4))
    def press(line: dict) -> None: ...

    @consume("lines.{customer}", ordered_by="customer", batch=9, batch_by="shard", retry=RetryPolicy(attempts=3, delay=0.2))
    async def book(lines: list[dict]) -> None: ...

    @consume("lines.{customer}", batch=500, deliver="new")
    async def store(lines: list[dict]) -> None: ...

    @gather("lines.{customer}", output="totals.all", expires=90, max_bytes="1MiB")
    async def total(lines: list[dict]) -> int:
        return len(lines)

    @cron("0 3 * * *", timezone="Europe/Berlin", retry=RetryPolicy(attempts=1), timeout=120)
    async def nightly(ctx: Context) -> None: ...
"""
STREAMS = {
    "orders": 'name = "ORDERS"\nsubjects = ["orders.{customer}"]\n[shards]\ncount = 8\nby = ["customer"]\n',
    "lines": 'name = "LINES"\nsubjects = ["lines.*"]\nduplicate_window = "20m"\n',
    "totals": 'name = "TOTALS"\nsubjects = ["totals.>"]\n',
}


SAID = {
    "split": [
        ("source", "every message of orders.{customer} in the stream ORDERS"),
        ("order", "for each customer, one message at a time"),
        ("order", "8 shards"),
        ("failover", "under a second"),
        ("no loss", "parked"),
        ("outputs", "stands in LINES once, within 20m of the first try; up to 1,000 items together"),
    ],
    "press": [
        ("process", "in a process of its own"),
        ("crash", "ends its process twice"),
        ("timeout", "its process is killed"),
        ("failure", "4 attempts in all; the waits between them add up to 15s"),
        ("order", "none"),
    ],
    "book": [
        ("order", "one batch of a shard at a time"),
        ("failure", "add up to 0 to 0.6 s"),
    ],
    "store": [
        ("batches", "up to 500 messages in one call, 0.2 s after the first"),
        ("source", "from the time on when it first ran"),
    ],
    "total": [
        ("source", "all parts of each split event"),
        ("source", "1m30s after the first one"),
        ("source", "at most 1 MiB"),
    ],
    "nightly": [
        ("source", "fires by the schedule 0 3 * * * Europe/Berlin, each firing once"),
        ("overlap", "left out"),
        ("failure", "one attempt"),
        ("timeout", "120 s at most"),
        ("side effects", "ctx.message_id"),
    ],
}


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"orders": FUNCTIONS}, streams=STREAMS)


def explained(project: Project, function: str) -> dict[str, str]:
    found = project.json("check", "--explain", function)
    assert found["function"] == function
    return {each["about"]: f"{each['promise']} | {each['why']}" for each in found["promises"]}


@pytest.mark.parametrize("function", SAID)
def test_what_is_promised_is_said_with_its_figures(project: Project, function: str) -> None:
    found = explained(project, function)
    assert [said for about, said in SAID[function] if said not in found.get(about, "")] == []


def test_what_is_not_promised_is_not_said(project: Project) -> None:
    assert "outputs" not in explained(project, "press")
    assert "failover" not in explained(project, "store")
    assert "batches" not in explained(project, "total")


def test_people_read_it_in_lines_of_at_most_100_characters(project: Project) -> None:
    done = project.runner("check", "--explain", "split")
    assert done.code == 0
    assert "order: for each customer, one message at a time" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_function_that_is_not_there_is_told_with_those_that_are(project: Project) -> None:
    done = project.runner("check", "--explain", "splitt")
    assert done.code == 2
    assert "error: there is no function 'splitt'" in done.stderr
    assert "did you mean 'split'" in done.stderr


def test_a_project_with_something_wrong_is_told_first(project: Project) -> None:
    project.function(
        "broken", "from runner import consume\n@consume('nowhere.*')\nasync def lost(x: dict) -> None: ...\n"
    )
    done = project.runner("check", "--explain", "split")
    assert done.code == 2
    assert "nowhere.*" in done.stderr


def test_the_hooks_of_a_function_are_said_in_their_order(make_project: Callable[..., Project]) -> None:
    hooks = """
    from runner import around

    @around
    async def timed(ctx, call): ...
    @around
    async def tenant(ctx, call): ...
"""
    inside = "\n    from runner import around\n    @around(scope='module')\n    async def circuit(ctx, call): ...\n"
    project = make_project(functions={"hooks": hooks, "shop": FUNCTIONS + inside}, streams=STREAMS)
    [said] = [
        each for each in project.json("check", "--explain", "press")["promises"] if each["about"] == "hooks"
    ]
    assert said["promise"] == (
        "around an attempt run functions.hooks.timed, and inside of it functions.hooks.tenant, and inside of it functions.shop.circuit"
    )
