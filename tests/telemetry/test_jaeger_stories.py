"""What a real Jaeger answers about what a user would look at: real processes on a real server, one of them killed."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise

import pytest

from runner.telemetry.query import Jaeger, Unanswered
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

SHOP = """
    import asyncio
    import os

    from journal import note
    from runner import Context, Reject, RetryPolicy, consume, gather, reply

    @consume("orders.{id}", output="paid.{id}", retry=RetryPolicy.fixed(0.05, attempts=5))
    async def charge(body: bytes, id: str, ctx: Context) -> bytes:
        if ctx.attempt < 4:
            raise ValueError(f"no {ctx.attempt}")
        return body

    @consume("paid.{id}")
    async def ship(body: bytes, id: str) -> None: ...

    @consume("refused.{id}")
    async def refuse(body: bytes, id: str) -> None:
        if not os.path.exists("mended"):
            raise Reject("no")

    @consume("events.{id}", output="lines.{id}")
    async def split(body: bytes, id: str):
        for number in range(5):
            yield number

    @gather("lines.{id}", output="totals.{id}")
    async def total(lines: list[int]) -> int:
        return sum(lines)

    @reply("quote.{id}", idempotent=True)
    async def quote(id: str) -> int:
        if "BROKEN" in os.environ:
            raise OSError("no route")
        return 7

    @consume("carts.{id}")
    async def offer(id: str, ctx: Context) -> None:
        await ctx.request(f"quote.{id}", None, returns=int, policy="round_robin")

    @consume("ledger.{account}", ordered_by="account", output="booked.{account}")
    async def book(body: bytes, account: str, ctx: Context) -> bytes:
        note("booking", pid=os.getpid(), attempt=ctx.attempt)
        if "HANGS" in os.environ:
            await asyncio.sleep(60)
        return body
"""
SUBJECTS = [
    "orders.*",
    "paid.*",
    "refused.*",
    "events.*",
    "lines.*",
    "totals.*",
    "carts.*",
    "ledger.*",
    "booked.*",
]
SENDER = "6" * 16
_numbers = count(1)


class Shop:
    """A project whose processes send their spans to a Jaeger, and what that Jaeger answers."""

    def __init__(self, project: Project, js: RawJetStream, otlp: int, page: int) -> None:
        self.project = project
        self.js = js
        self.jaeger = Jaeger(f"http://127.0.0.1:{page}")
        self.trace = f"{time.time_ns():024x}{next(_numbers):08x}"
        project.environment |= {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{otlp}",
        }

    async def run(self, *arguments: str, **variables: str) -> RunnerProcess:
        process = self.project.start("run", *arguments, **variables)
        await process.seen("ready: ")
        return process

    async def publish(self, subject: str) -> None:
        await self.js.publish(subject, b"x", {"traceparent": f"00-{self.trace}-{SENDER}-01"})

    def asked(self) -> list[Span]:
        """The spans of the trace, as far as Jaeger has them."""
        try:
            return self.jaeger.trace(self.trace)
        except Unanswered:
            return []

    async def drawn(self, wanted: str) -> list[Span]:
        """Wait until Jaeger's trace is this tree; what exceptions say is left out."""
        text = ""

        async def same() -> bool:
            nonlocal text
            text = plain(await asyncio.to_thread(self.asked))
            return text == wanted.strip()

        try:
            await eventually(same)
        except AssertionError:
            assert text == wanted.strip()
        return await asyncio.to_thread(self.asked)


def plain(spans: list[Span]) -> str:
    return re.sub(r"exception\{[^}]*\}", "exception", tree(spans))


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    if not os.environ.get("JAEGER_BIN"):
        pytest.skip("JAEGER_BIN does not name a Jaeger binary: nothing here was tested against a real Jaeger")
    otlp, page = free_port(), free_port()
    with running(tmp_path_factory.mktemp("jaeger"), otlp=otlp, page=page):
        yield otlp, page


@pytest.fixture
async def shop(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    jaeger: tuple[int, int],
) -> Shop:
    await js.create("ALL", SUBJECTS, allow_direct=True, allow_atomic=True)
    return Shop(make_project(functions={"shop": SHOP}, nats=nats_server.url), js, *jaeger)


async def test_three_failures_a_success_its_output_and_the_next_function(shop: Shop) -> None:
    await shop.run()
    await shop.publish("orders.a")
    spans = await shop.drawn("""
charge: charge consumer 1/5 retry error=ValueError exception message.nak{delay=0.05,next_attempt=2}
charge: charge consumer 2/5 retry error=ValueError exception message.nak{delay=0.05,next_attempt=3}
charge: charge consumer 3/5 retry error=ValueError exception message.nak{delay=0.05,next_attempt=4}
charge: charge consumer 4/5 ack message.ack
  charge: send paid.a producer
    ship: ship consumer 1/5 ack message.ack
""")
    attempts = sorted((each for each in spans if each.name == "charge"), key=lambda each: each.start_ns)
    assert {each.parent_id for each in attempts} == {SENDER}
    for before, after in pairwise(attempts):
        assert after.start_ns - before.end_ns > 0.045e9, "the wait between attempts is to be seen"


async def test_a_dead_letter_and_the_trace_of_its_redrive_which_links_there(shop: Shop) -> None:
    await shop.run()
    await shop.publish("refused.a")
    await shop.drawn("""
refuse: refuse consumer 1/5 dead_letter error=runner.core.signals.Reject exception message.term{reason=rejected}
  refuse: send deadletters.shop.refuse producer
""")
    (shop.project.root / "mended").touch()
    done = await asyncio.to_thread(shop.project.runner, "deadletter", "redrive", "--all")
    assert done.code == 0, done.stderr

    def again() -> list[Span]:
        return [each for each in shop.jaeger.message("ALL:1") if each.trace_id != shop.trace]

    await eventually(lambda: any(each.name == "refuse" for each in again()))
    (attempt,) = [each for each in again() if each.name == "refuse"]
    assert attempt.attributes["jetrunner.outcome"] == "ack"
    assert {each.trace_id for each in attempt.links} == {shop.trace}


async def test_a_gather_of_five(shop: Shop) -> None:
    await shop.run()
    await shop.publish("events.a")
    parts = "\n".join(["  split: send lines.a producer"] * 4)

    async def joined() -> list[Span]:
        found = await asyncio.to_thread(shop.asked)
        return found if any(each.name == "send totals.a" for each in found) else []

    spans = await eventually(joined)
    (call,) = [each for each in spans if each.name == "total"]
    sent = {each.span_id for each in spans if each.name == "send lines.a"}
    assert len(sent) == 5
    assert sent == {call.parent_id, *(each.span_id for each in call.links)}
    lines = plain(spans).splitlines()
    assert lines[0] == "split: split consumer 1/5 ack message.ack"
    assert sorted(lines[1:]) == sorted(
        [
            *parts.splitlines(),
            "  split: send lines.a producer",
            "    total: total consumer 1/5 ack message.ack link link link link",
            "      total: send totals.a producer",
        ]
    )


async def test_a_request_that_failed_over(shop: Shop) -> None:
    await shop.run("--only", "quote", BROKEN="1")
    await shop.run("--only", "quote")
    await shop.run("--only", "offer")
    for number in range(8):  # one after the other: the first may know of one instance alone
        shop.trace = f"{time.time_ns():024x}{next(_numbers):08x}"
        await shop.publish(f"carts.{number}")

        async def told() -> list[Span]:
            found = await asyncio.to_thread(shop.asked)
            return found if any(each.name == "offer" for each in found) else []

        spans = await eventually(told)
        if any(each.name == "quote" and each.failed for each in spans):
            break
    await shop.drawn("""
offer: offer consumer 1/5 ack message.ack
  offer: request quote.* client error=runner.errors.ServiceError exception
    quote: quote server error=OSError exception
  offer: request quote.* client
    quote: quote server
""")


async def test_a_message_whose_instance_was_killed_in_its_handler_goes_on_in_its_trace(shop: Shop) -> None:
    first = await shop.run("--only", "book", HANGS="1")
    await shop.publish("ledger.a")
    await eventually(lambda: shop.project.journal("booking"))
    await shop.run("--only", "book")
    killed = time.time_ns()
    first.kill()
    spans = await shop.drawn("""
book: book consumer 1/5 ack message.ack
  book: send booked.a producer
""")
    (attempt,) = [each for each in spans if each.name == "book"]
    assert attempt.start_ns > killed
    assert len(shop.project.journal("booking")) == 2
    assert {each["attempt"] for each in shop.project.journal("booking")} == {1}
