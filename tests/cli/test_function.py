"""`runner function list` and `runner function invoke`: no server anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from tests.support.project import Project

SHOP = """
    import sys
    import time

    from msgspec import Struct

    from runner import Context, Reject, Retry, RetryPolicy, consume, lifespan

    class Order(Struct):
        id: str
        cents: int = 1

    @lifespan
    async def state():
        yield {"bank": "open"}
        print("closed", file=sys.stderr)

    @consume("orders.{customer}.{number}", output="paid.{customer}", retry=RetryPolicy(attempts=2, delay=3, jitter="none"))
    async def charge(order: Order, number: int, ctx: Context) -> Order:
        match order.id:
            case "reject": raise Reject("nothing to charge")
            case "retry": raise Retry("later", after=7)
            case "fail": raise ValueError("unlucky")
            case "exit": sys.exit(3)
        await ctx.publish("audit.charge", {"number": number, **ctx.state}, headers={"Tenant": "acme"}, delay=5)
        return order

    @consume("plain")
    def thread(body: bytes) -> str:
        return body.decode().upper()

    @consume("split", output="parts")
    async def split(count: int):
        for at in range(count):
            yield {"at": at}

    @consume("slow", timeout=0.1)
    def slow(body: bytes) -> None:
        time.sleep(1)

    @consume("odd")
    def odd(body: bytes) -> object:
        return object
"""


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"shop": SHOP}, nats="nats://127.0.0.1:1")


def test_the_list_is_a_table_of_bindings(project: Project) -> None:
    done = project.runner("function", "list")
    lines = done.stdout.splitlines()
    assert (done.code, done.stderr, len(lines)) == (0, "", 6)
    assert lines[0].split() == [
        "FUNCTION",
        "SUBJECT",
        "OR",
        "SCHEDULE",
        "OUTPUT",
        "ATTEMPTS",
        "TIMEOUT",
        "CONCURRENCY",
        "ORDERED",
        "BY",
        "ON",
        "EXHAUSTED",
        "WHERE",
    ]
    assert lines[1].split()[:4] == ["charge", "orders.{customer}.{number}", "paid.{customer}", "2"]
    assert "functions/shop.py:" in lines[1]


def test_the_list_as_json_has_every_option(project: Project) -> None:
    found = {each["name"]: each for each in project.json("function", "list")}
    assert list(found) == ["charge", "thread", "split", "slow", "odd"]
    assert {**found["slow"], "line": 0} == {
        "name": "slow", "renamed_from": None, "subject": "slow", "schedule": None, "answers": False, "route": None, "idempotent": None, "overlap": None, "joins": False, "expires": None, "max_bytes": None, "executor": None, "output": None, "stream": None, "durable": "shop-slow", "kind": "thread",
        "attempts": 5, "timeout": 0.1, "concurrency": min(32, (os.cpu_count() or 1) + 4), "ordered_by": [], "on_exhausted": "dead_letter", "max_age": None, "deliver": "all",
        "batch": None,
        "batch_by": None,
        "file": "functions/shop.py", "line": 0,
    }  # fmt: skip


def test_the_list_has_the_schedule_in_the_place_of_a_subject(make_project: Callable[..., Project]) -> None:
    project = make_project(
        functions={
            "shop": """
            from runner import cron

            @cron("0 3 * * *", timezone="Europe/Berlin", overlap="allow")
            def nightly() -> None: ...
            """
        }
    )
    (found,) = project.json("function", "list")
    assert (found["schedule"], found["overlap"]) == ("0 3 * * * Europe/Berlin", "allow")
    assert "nightly   0 3 * * * Europe/Berlin  " in project.runner("function", "list").stdout


def test_the_list_says_what_keeps_order_and_what_parks(make_project: Callable[..., Project]) -> None:
    project = make_project(
        functions={
            "shop": """
            from runner import consume

            @consume("orders.{customer}.{item}", ordered_by=("customer", "item"), on_exhausted="park")
            async def charge(order: bytes) -> None: ...
            """
        }
    )
    (found,) = project.json("function", "list")
    assert (found["ordered_by"], found["on_exhausted"]) == (["customer", "item"], "park")
    assert "  customer, item  park  " in project.runner("function", "list").stdout


def test_a_project_without_functions_has_an_empty_list(make_project: Callable[..., Project]) -> None:
    assert make_project().json("function", "list") == []


def test_a_call_shows_its_output_and_what_it_published(project: Project) -> None:
    arguments = ("function", "invoke", "charge", "--subject", "orders.ada.7", '{"id": "1"}')
    document = project.json(*arguments)
    (published,) = document["published"]
    assert document["result"] == {"id": "1", "cents": 1}
    assert document["outputs"][0]["subject"] == "paid.ada"
    assert (published["subject"], published["body"]) == ("audit.charge", {"number": 7, "bank": "open"})
    assert published["headers"] == {"Tenant": "acme"}
    assert published["at"] is not None
    done = project.runner(*arguments)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["output", "paid.ada"],
        ["published", "audit.charge"],
    ]
    assert "closed" in done.stderr


def test_threads_and_generators_are_called_as_well(project: Project) -> None:
    assert project.runner("function", "invoke", "thread", "-", stdin="piped").stdout.split() == [
        "returned",
        "PIPED",
    ]
    assert project.json("function", "invoke", "thread", "loud")["result"] == "LOUD"
    document = project.json("function", "invoke", "split", "2")
    assert [each["body"] for each in document["outputs"]] == [{"at": 0}, {"at": 1}]
    assert "object" in project.json("function", "invoke", "odd", "x")["result"]


@pytest.mark.parametrize(
    ("body", "attempt", "settlement", "reason"),
    [
        ('{"id": "reject"}', "1", "dead", "rejected: Reject: nothing to charge"),
        ('{"id": "retry"}', "1", "retry", "again in 7 s: Retry: later"),
        ('{"id": "fail"}', "1", "retry", "again in 3 s: ValueError: unlucky"),
        ('{"id": "fail"}', "2", "dead", "exhausted: ValueError: unlucky"),
        ('{"id": "exit"}', "1", "retry", "again in 3 s: SystemExit: 3"),
        ('{"id": 1}', "1", "dead", "undecodable: DecodeError: Expected `str`, got `int` - at `$.id`"),
        ("", "1", "dead", "undecodable: DecodeError: empty body"),
    ],
)
def test_a_call_that_fails_says_what_would_become_of_the_message(
    project: Project, body: str, attempt: str, settlement: str, reason: str
) -> None:
    done = project.runner(
        "function",
        "invoke",
        "charge",
        "--subject",
        "orders.ada.7",
        body,
        "--attempt",
        attempt,
        "--output",
        "json",
    )
    assert done.code == 1
    assert json.loads(done.stdout) == {"function": "charge", "settlement": settlement, "reason": reason}
    assert f": {reason}" in done.stderr


def test_an_exception_shows_the_users_own_frames(project: Project) -> None:
    done = project.runner("function", "invoke", "charge", "--subject", "orders.ada.7", '{"id": "fail"}')
    assert done.stdout == ""
    assert "functions/shop.py" in done.stderr
    assert "runner/cli" not in done.stderr


def test_a_call_ends_at_the_functions_timeout(project: Project) -> None:
    done = project.runner("function", "invoke", "slow", "x", "--output", "json")
    assert json.loads(done.stdout)["reason"] == "again in 0.5 s: no result within 0.1 s"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("charg", "1"), "did you mean 'charge'?"),
        (("charge", "1"), "which is many subjects"),
        (("charge", "1", "--subject", "orders.ada"), "is none of those"),
        (("charge", "1", "--subject", "orders.*.7"), "wildcard"),
        (("charge", "1", "--subject", "orders.{customer}.7"), "not filled in"),
        (("thread", "1", "--file", "pyproject.toml"), "not both"),
    ],
)
def test_what_cannot_be_called_is_wrong_usage(
    project: Project, arguments: tuple[str, ...], sentence: str
) -> None:
    done = project.runner("function", "invoke", *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_a_token_that_does_not_convert_is_undecodable(project: Project) -> None:
    done = project.runner("function", "invoke", "charge", "--subject", "orders.ada.x", '{"id": "1"}')
    assert done.code == 1
    assert "undecodable: DecodeError: token 'number'" in done.stderr


def test_a_header_that_is_given_twice_has_both_values(make_project: Callable[..., Project]) -> None:
    project = make_project(
        functions={
            "tags": """
            from runner import Context, consume

            @consume("tags")
            async def tags(ctx: Context) -> list[str]:
                return [ctx.headers["Tag"], *ctx.header_values("tag")]
            """
        }
    )
    called = project.json("function", "invoke", "tags", "--header", "Tag: a", "--header", "Tag: b")
    assert called["result"] == ["a", "a", "b"]


def test_hooks_run_around_a_call(make_project: Callable[..., Project]) -> None:
    source = """
    from runner import around, consume

    @around
    async def doubled(ctx, call):
        return 2 * await call()

    @consume("orders.*", output="lines")
    def charge(cents: int) -> int:
        return cents
"""
    done = make_project(functions={"shop": source}).runner(
        "function", "invoke", "charge", "--subject", "orders.1", "21"
    )
    assert done.stdout == "output     lines  42\n"


def test_the_traceback_of_a_call_has_the_hooks_and_nothing_of_the_runner(
    make_project: Callable[..., Project],
) -> None:
    source = """
    from runner import around, consume

    @around
    async def looked_at(ctx, call):
        try:
            await call()
        except ValueError:
            pass

    @consume("orders.*")
    {kind} charge(cents: int) -> None:
        raise ValueError("unlucky")
"""
    for kind in ("async def", "def"):
        project = make_project(functions={"shop": source.format(kind=kind)})
        done = project.runner("function", "invoke", "charge", "--subject", "orders.1", "21")
        lines = [line for line in done.stderr.splitlines() if "File" in line]
        assert [line.rpartition(" in ")[2] for line in lines] == ["looked_at", "charge"]


def test_what_a_function_asks_is_answered_by_the_command_line(make_project: Callable[..., Project]) -> None:
    source = """
    from runner import Context, consume

    @consume("orders.*")
    async def charge(cents: int, ctx: Context) -> float:
        rate = await ctx.request("rates.eur", None, returns=dict[str, float])
        left = await ctx.request("stock.tea", cents, returns=int)
        return rate["eur"] * left
"""
    project = make_project(functions={"shop": source})
    asked = ("function", "invoke", "charge", "--subject", "orders.1", "21")
    done = project.runner(
        *asked, "--reply", 'rates.*={"eur": 0.5}', "--reply", "stock.tea=8", "--reply", "stock.*=9"
    )
    assert (done.code, done.stdout) == (0, "returned   4.0\n")
    done = project.runner(*asked, "--reply", 'rates.*={"eur": 0.5}')
    assert done.code == 1
    assert "nobody is asked here: give the answer with --reply stock.tea=BODY" in done.stderr
    for wrong, why in (("rates", "is not SUBJECT=BODY"), ("a..b=1", "empty token")):
        done = project.runner(*asked, "--reply", wrong)
        assert done.code == 2
        assert why in done.stderr
