"""Functions that answer, as the commands tell of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.asker import asking
from tests.support.eventually import eventually
from tests.support.health import asked as health
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

QUOTES = """
    import asyncio
    from runner import Context, Reject, reply

    @reply("quotes.{customer}", idempotent=True, timeout=120, concurrency=2)
    async def quote(customer: str, ctx: Context) -> dict[str, str]:
        if customer == "nobody":
            raise Reject("no customer")
        if customer == "broken":
            raise OSError("no route for hunter2")
        if customer == "slow":
            await asyncio.sleep(600)
        ctx.publish("seen.quotes", customer)
        return {"customer": customer}
"""
CLASH = """
    from runner import reply

    @reply("quotes.special")
    async def special() -> str:
        return "special"
"""
SEEN = 'name = "SEEN"\nsubjects = ["seen.*"]\n'


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"quotes": QUOTES}, streams={"seen": SEEN})


def test_check_needs_no_stream_for_it(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"quotes": QUOTES})
    done = project.runner("check")
    assert (done.code, done.stdout) == (0, "shop: 1 function, 0 streams, all well\n")


def test_check_refuses_two_that_would_answer_the_same(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"quotes": QUOTES, "special": CLASH}, nats=nats_server.url)
    for command in ("check", "run"):
        done = project.runner(command)
        assert done.code == 2
        assert "special: it answers requests that quote answers" in done.stderr
        assert "hint: give them subjects that do not overlap" in done.stderr


def test_check_warns_of_a_stream_that_would_store_requests(project: Project) -> None:
    project.stream("quotes", 'name = "QUOTES"\nsubjects = ["quotes.>"]\n')
    done = project.runner("check")
    assert done.code == 0
    assert "QUOTES stores what is asked on quotes.{customer}" in " ".join(done.stderr.split())


def test_check_explains_it(project: Project) -> None:
    found = project.json("check", "--explain", "quote")
    told = {each["about"]: each["promise"] for each in found["promises"]}
    assert list(told) == ["source", "once", "overload", "deadline", "stop", "outputs"]
    assert told["deadline"].startswith("an asker waits 120 s at most")


def test_the_list_shows_it(project: Project) -> None:
    (found,) = project.json("function", "list")
    assert (found["answers"], found["idempotent"], found["durable"], found["subject"]) == (
        True,
        True,
        None,
        "quotes.{customer}",
    )
    assert "the asker" in project.runner("function", "list").stdout


def test_it_is_invoked_without_nats(project: Project) -> None:
    done = project.runner("function", "invoke", "quote", "--subject", "quotes.ada")
    assert (done.code, done.stdout.splitlines()[0].split(maxsplit=1)) == (
        0,
        ["returned", '{"customer":"ada"}'],
    )
    wrong = project.runner("function", "invoke", "quote", "--subject", "quotes.nobody")
    assert wrong.code == 1
    assert "error: quote: the request would be answered: 422: no customer" in wrong.stderr
    told = project.json("function", "invoke", "quote", "--subject", "quotes.broken", code=1)
    assert (told["settlement"], told["reason"]) == ("error", "500: OSError: no route for hunter2")


def test_permissions_name_what_it_needs(project: Project) -> None:
    def claims(role: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            project.runner("permissions", "--for", role, "--form", "jwt").stdout
        )["nats"]
        return found

    run = claims("run")
    assert {
        "quotes.*", "jetrunner.shop.at.*.>", "$SRV.PING", "$SRV.INFO.shop", "$SRV.STATS.shop.*",
    } <= {*run["sub"]["allow"]}  # fmt: skip
    assert {"jetrunner.services", "_INBOX.>"} <= {*run["pub"]["allow"]}
    assert not [each for each in run["pub"]["allow"] if "quote" in each], "no durable, no dead letters"
    assert "quotes.*" in claims("publish")["pub"]["allow"]
    assert "quote" not in json.dumps(claims("operate"))


@pytest.mark.server
async def test_plan_and_apply_leave_it_out(project: Project, nats_server: NatsServer) -> None:
    project.environment["NATS_URL"] = nats_server.url
    await project.applied()
    assert "quote" not in json.dumps(project.json("plan"))


@pytest.mark.server
async def test_status_and_metrics_count_requests(project: Project, nats_server: NatsServer) -> None:
    project.environment["NATS_URL"] = nats_server.url
    await project.applied()
    port = free_port()
    processes = [project.start("run", "--health", f"127.0.0.1:{port}"), project.start("run")]
    for process in processes:
        await process.seen("ready: quote")
    async with asking(nats_server.url) as asker:
        for customer in ("ada", "ben", "nobody", "broken"):
            await asker.ask(f"quotes.{customer}")
        asked = [asker.asked("quotes.slow") for _ in range(5)]

        def counted() -> dict[str, Any]:
            (found,) = project.json("status")["functions"]
            assert found["in_flight"] + found["pending"] == 5
            return dict(found)

        found = await eventually(counted)
        assert (found["function"], found["answers"], found["handled"], found["acked"]) == (
            "quote",
            True,
            4,
            2,
        )
        assert (found["failures"], found["availability"], len(found["instances"])) == (2, 0.75, 2)
        assert (found["stream"], found["durable"], found["gone"]) == (None, None, False)
        assert found["p99"] > 0

        def is_shown() -> bool:  # an instance that stands still for a second is left out
            table = project.runner("status").stdout
            return "quote" in table and "75.00%" in table

        await eventually(is_shown)
        _, metrics = await health(port, "/metrics")
        assert (await health(port, "/readyz"))[0] == 200
        assert 'jetrunner_requests_total{code="200",function="quote",not_started=""}' in metrics
        assert 'jetrunner_requests_total{code="429",function="quote",not_started="overloaded"} 0.0' in metrics
        assert "jetrunner_messages_total" not in metrics
        for each in asked:
            each.cancel()


@pytest.mark.server
def test_dev_prints_each_request(project: Project) -> None:
    dev = project.start("dev")
    url = dev.line(r"NATS at \S+").split()[-1]
    dev.line("ready in")

    async def ask() -> None:
        async with asking(url) as asker:
            for customer in ("ada", "nobody", "broken"):
                await asker.ask(f"quotes.{customer}")

    asyncio.run(ask())
    dev.line(r"✓  quote  quotes\.ada  [\d.]+ ms$")
    dev.line(r"✗  quote  quotes\.nobody  [\d.]+ ms  422: no customer$")
    dev.line(r"✗  quote  quotes\.broken  [\d.]+ ms  500: OSError: no route for hunter2$")
    dev.line(r"  at functions/quotes\.py:10 in quote")


@pytest.mark.server
async def test_what_redact_names_is_in_no_answer_and_no_line(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    source = """
        from runner import reply

        @reply("pay.{customer}")
        async def pay(body: dict[str, str]) -> None:
            raise ValueError(f"card {body['card']} is refused")
    """
    project = make_project(
        functions={"pay": source}, settings='redact = ["card"]\nlog_level = "debug"\n', nats=nats_server.url
    )
    process = project.start("run")
    await process.seen("ready: pay")
    async with asking(nats_server.url) as asker:
        answer = await asker.ask("pay.ada", b'{"card": "4111-2222"}')
        assert answer.error == "ValueError: card [redacted] is refused"
        stats = (await asker.ask("$SRV.STATS.shop")).body
    await process.seen(
        r"pay: a request on pay\.ada was answered 500: ValueError: card \[redacted\] is refused"
    )
    assert b"4111" not in stats
    assert "4111" not in process.output
