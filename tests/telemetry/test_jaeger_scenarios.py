"""What the API of a real Jaeger answers of what a user looks for there: retries, dead letters, gathers, requests asked again, kills."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from runner.telemetry import jaeger
from runner.telemetry.span import Span
from tests.support.eventually import eventually
from tests.support.jaeger import running
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.tree import tree

pytestmark = [pytest.mark.server, pytest.mark.anyio]

STREAM = 'name = "SHOP"\nsubjects = ["orders.>", "paid.*", "carts.*", "offers.*", "lines.*", "priced.*", "totals.*"]'
SHOP = """
    import asyncio
    import os
    from pathlib import Path

    from runner import Context, Reject, RetryPolicy, consume, gather, reply

    @consume("orders.{id}.retried", output="paid.{id}", retry=RetryPolicy.fixed(0.05))
    async def charge(body: bytes, id: str, ctx: Context) -> bytes:
        if ctx.attempt <= 3:
            raise ValueError(f"no {ctx.attempt}")
        return body

    @consume("paid.{id}")
    async def ship(body: bytes, id: str) -> None: ...

    @consume("orders.{id}.refused")
    async def refuse(body: bytes, id: str) -> None:
        if not os.path.exists("mended"):
            raise Reject("no")

    @consume("orders.{id}.killed", output="paid.{id}")
    async def pack(body: bytes, id: str, ctx: Context) -> bytes:
        if ctx.attempt == 1:
            Path("packing").touch()
            await asyncio.sleep(600)
        return body

    @consume("orders.{id}.split", output="lines.{id}")
    async def split(body: bytes, id: str):
        for number in range(5):
            yield {"n": number}

    @consume("lines.{id}", output="priced.{id}")
    async def price(line: dict) -> dict:
        return line

    @gather("priced.{id}", output="totals.{id}")
    async def total(lines: list[dict], ctx: Context) -> int:
        return len(lines)

    @reply("quotes.{customer}", idempotent=True)
    async def quote(customer: str) -> int:
        if "BROKEN" in os.environ:
            raise OSError("no route")
        return 7

    @consume("carts.{customer}", output="offers.{customer}")
    async def offer(customer: str, ctx: Context) -> int:
        return await ctx.request(f"quotes.{customer}", None, returns=int, policy="round_robin")
"""
SENDER = "6" * 16


class Answers(NamedTuple):
    """A running Jaeger: where spans go, and whom to ask."""

    collector: str
    api: str

    async def ask(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The traces of an answer; none while it knows none."""

        def asked() -> list[dict[str, Any]]:
            try:
                with urllib.request.urlopen(
                    f"{self.api}{path}?{urllib.parse.urlencode(query)}", timeout=5
                ) as answer:
                    found: list[dict[str, Any]] = json.load(answer)["data"] or []
                    return found
            except urllib.error.HTTPError as error:
                error.close()
                return []

        return await asyncio.to_thread(asked)

    async def trace(self, trace_id: str, count: int) -> dict[str, Any]:
        """A trace, once Jaeger has so many spans of it."""

        async def whole() -> dict[str, Any] | None:
            trace: dict[str, Any]
            (trace,) = await self.ask(f"/api/traces/{trace_id}")
            return trace if len(trace["spans"]) >= count else None

        found: dict[str, Any] | None = await eventually(whole, within=40)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    if not os.environ.get("JAEGER_BIN"):
        pytest.skip("JAEGER_BIN does not name a Jaeger binary: nothing here was tested against a real Jaeger")
    otlp, page = free_port(), free_port()
    with running(tmp_path_factory.mktemp("jaeger"), otlp=otlp, page=page):
        yield Answers(f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{page}")


class Shop(NamedTuple):
    project: Project
    js: RawJetStream

    async def run(self, *arguments: str, **variables: str) -> RunnerProcess:
        process = self.project.start("run", *arguments, **variables)
        await process.seen("ready: ")
        return process


@pytest.fixture
async def shop(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, answers: Answers
) -> Shop:

    async def listening() -> bool:
        return await answers.ask("/api/services") is not None

    await eventually(listening)
    project = make_project(functions={"shop": SHOP}, streams={"shop": STREAM}, nats=nats_server.url)
    project.environment |= {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": answers.collector,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    await project.applied()
    return Shop(project, js)


def sent_in(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{SENDER}-01"}


def of_cart(number: int) -> str:
    """A trace id; Jaeger writes one that begins with a zero without it."""
    return f"b{number}" * 16


def decoded(*traces: dict[str, Any]) -> list[Span]:
    return jaeger.decode(json.dumps({"data": traces}).encode())


def drawn(*traces: dict[str, Any]) -> str:
    return tree(decoded(*traces))


def references(trace: dict[str, Any], kind: str) -> set[tuple[str, str]]:
    """Trace and span that the spans of a trace refer to in this way."""
    return {
        (each["traceID"], each["spanID"])
        for span in trace["spans"]
        for each in span["references"]
        if each["refType"] == kind
    }


async def test_three_retries_then_success_its_output_and_the_next_function(
    shop: Shop, answers: Answers
) -> None:
    trace_id = "a1" * 16
    await shop.run()
    await shop.js.publish("orders.a.retried", b"x", sent_in(trace_id))
    trace = await answers.trace(trace_id, 6)
    failed = "charge: charge consumer {0}/5 retry error=ValueError exception message.nak{{delay=0.05,next_attempt={1}}}"
    assert drawn(trace).splitlines() == [
        *(failed.format(attempt, attempt + 1) for attempt in (1, 2, 3)),
        "charge: charge consumer 4/5 ack message.ack",
        "  charge: send paid.a producer",
        "    ship: ship consumer 1/5 ack message.ack",
    ]
    services = {each["serviceName"] for each in trace["processes"].values()}
    assert services == {"charge", "ship"}
    for service, message in (("charge", "SHOP:1"), ("ship", "SHOP:2")):
        found = await answers.ask(
            "/api/traces", service=service, tags=json.dumps({"messaging.message.id": message})
        )
        assert trace_id in {each["traceID"] for each in found}
    tags = [{tag["key"]: tag["value"] for tag in span["tags"]} for span in trace["spans"]]
    assert sorted(each["jetrunner.attempt"] for each in tags if each.get("error") is True) == [1, 2, 3]
    retried = json.dumps({"jetrunner.outcome": "retry"})
    failures = await answers.ask("/api/traces", service="charge", tags=retried)
    assert trace_id in {each["traceID"] for each in failures}


async def test_a_dead_letter_and_its_redrive_whose_trace_refers_to_the_first(
    shop: Shop, answers: Answers
) -> None:
    trace_id = "a2" * 16
    await shop.run()
    await shop.js.publish("orders.a.refused", b"x", sent_in(trace_id))
    assert drawn(await answers.trace(trace_id, 2)).splitlines() == [
        "refuse: refuse consumer 1/5 dead_letter error=runner.core.signals.Reject exception message.term{reason=rejected}",
        "  refuse: send deadletters.shop.refuse producer",
    ]
    (shop.project.root / "mended").touch()
    done = await asyncio.to_thread(shop.project.runner, "deadletter", "redrive", "--all")
    assert done.code == 0, done.stderr

    async def redriven() -> dict[str, Any] | None:
        found = await answers.ask("/api/traces", service="refuse", limit="100")
        again = [each for each in found if trace_id in {of for of, _ in references(each, "FOLLOWS_FROM")}]
        return again[0] if again and len(again[0]["spans"]) == 2 else None

    again = await eventually(redriven, within=20)
    assert again is not None
    assert again["traceID"] != trace_id
    assert drawn(again) == (
        "shop: send $JETRUNNER.again.shop.refuse producer link\n  refuse: refuse consumer 1/5 ack message.ack link"
    )


async def test_a_gather_of_five_is_below_one_part_and_refers_to_the_other_four(
    shop: Shop, answers: Answers
) -> None:
    trace_id = "a3" * 16
    await shop.run()
    await shop.js.publish("orders.1.split", b"x", sent_in(trace_id))
    trace = await answers.trace(trace_id, 1 + 5 + 5 + 5 + 1 + 1)
    lines = [line.strip() for line in drawn(trace).splitlines()]
    assert lines[0] == "split: split consumer 1/5 ack message.ack"
    for line in ("split: send lines.1 producer", "price: price consumer 1/5 ack message.ack"):
        assert lines.count(line) == 5
    assert lines.count("price: send priced.1 producer") == 5
    assert lines.count("total: total consumer 1/5 ack message.ack link link link link") == 1
    assert lines.count("total: send totals.1 producer") == 1
    assert len(lines) == 18
    spans = decoded(trace)
    (call,) = (each for each in spans if each.name == "total")
    assert call.attributes["messaging.batch.message_count"] == 5
    parts = {each.span_id for each in spans if each.name == "send priced.1"}
    assert {of for of, _ in references(trace, "FOLLOWS_FROM")} == {trace_id}
    assert {span for _, span in references(trace, "FOLLOWS_FROM")} | {call.parent_id} == parts


FAILED_OVER = [
    "offer: offer consumer 1/5 ack message.ack",
    "offer: request quotes.* client error=runner.errors.ServiceError",
    "quote: quote server error=OSError",
    "offer: request quotes.* client",
    "quote: quote server",
]


async def test_a_request_that_another_instance_answers_shows_both_tries_in_one_trace(
    shop: Shop, answers: Answers
) -> None:
    await shop.run("--only", "quote", BROKEN="1")
    await shop.run("--only", "quote")
    await shop.run("--only", "offer")
    numbers = range(8)  # the first may know of one instance alone
    for number in numbers:
        await shop.js.publish(f"carts.{number}", None, sent_in(of_cart(number)))

        async def offered(number: int = number) -> object:
            return await shop.js.messages("SHOP", f"offers.{number}")

        await eventually(offered, within=20)

    async def failed_over() -> list[Span]:
        for number in numbers:
            found = decoded(*await answers.ask(f"/api/traces/{of_cart(number)}"))
            lines = [line.strip().partition(" exception")[0] for line in tree(found).splitlines()]
            if lines[:-1] == FAILED_OVER and lines[-1] == f"offer: send offers.{number} producer":
                return found
        return []

    spans = await eventually(failed_over, within=30)
    tries = [each for each in spans if each.name == "request quotes.*"]
    assert {each.attributes["jetrunner.try"]: each.failed for each in tries} == {1: True, 2: False}
    assert len({each.attributes["jetrunner.instance"] for each in tries}) == 2


async def test_after_a_kill_the_next_attempt_its_output_and_the_next_function_are_in_the_same_trace(
    shop: Shop, answers: Answers
) -> None:
    trace_id = "a5" * 16
    first = await shop.run()
    await shop.js.publish("orders.a.killed", b"x", sent_in(trace_id))
    await eventually((shop.project.root / "packing").exists)
    first.kill()
    await shop.run()
    trace = await answers.trace(trace_id, 3)
    assert drawn(trace).splitlines() == [
        "pack: pack consumer 2/5 ack message.ack",
        "  pack: send paid.a producer",
        "    ship: ship consumer 1/5 ack message.ack",
    ]
