"""What a trace shows of what a message may live through: trees of spans as text, of real processes on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from runner.core import traceparent
from runner.jetstream.messages import nanoseconds
from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.conftest import PATIENT
from tests.telemetry.tree import tree

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHOP = """
    import os

    from runner import Context, Reject, RetryPolicy, consume

    @consume("orders.{id}.retried", output="paid.{id}", retry=RetryPolicy.fixed(0.05, attempts=3))
    async def charge(body: bytes, id: str, ctx: Context) -> bytes:
        if ctx.attempt < 3:
            raise ValueError(f"no {ctx.attempt}")
        return body

    @consume("paid.{id}")
    async def ship(body: bytes, id: str) -> None: ...

    @consume("orders.{id}.refused")
    async def refuse(body: bytes, id: str) -> None:
        if not os.path.exists("mended"):
            raise Reject("no")

    @consume("orders.{id}.later")
    async def remind(body: bytes, id: str, ctx: Context) -> None:
        await ctx.publish("soon.x", b"x", delay=60)
        await ctx.publish("far.x", b"x", delay=301)

    @consume("ledger.{account}.close", ordered_by="account", on_exhausted="park", retry=RetryPolicy(attempts=1))
    async def close(body: bytes, account: str) -> None:
        if not os.path.exists("mended"):
            raise ValueError("it is not empty")
"""
STREAMS = {"ORDERS": "orders.>", "PAID": "paid.>", "LEDGER": "ledger.>", "OTHERS": "soon.*,far.*"}
TRACE, SENDER = "5" * 32, "6" * 16
SAMPLED = {"traceparent": f"00-{TRACE}-{SENDER}-01"}


class Shop:
    """A running project, and the spans that come of it."""

    def __init__(self, project: Project, js: RawJetStream, receiver: Receiver) -> None:
        self.project = project
        self.js = js
        self.receiver = receiver
        project.environment |= {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            **PATIENT,
        }

    async def run(self) -> RunnerProcess:
        process = self.project.start("run")
        await process.seen("ready")
        return process

    async def spans(self, count: int, trace: str = TRACE) -> list[Span]:
        """Those of a trace, once there are so many."""

        def enough(spans: Sequence[Span]) -> bool:
            return len(of(spans, trace)) >= count

        return of(await asyncio.to_thread(self.receiver.wait, enough, 60.0), trace)


def of(spans: Sequence[Span], trace: str) -> list[Span]:
    return [each for each in spans if each.trace_id == trace]


@pytest.fixture
async def shop(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, receiver: Receiver
) -> Shop:
    for stream, subjects in STREAMS.items():
        await js.create(stream, subjects.split(","), allow_direct=True, allow_atomic=True)
    return Shop(make_project(functions={"shop": SHOP}, nats=nats_server.url), js, receiver)


ATTEMPTS = """
charge: charge consumer 1/3 retry error=ValueError exception message.nak{delay=0.05,next_attempt=2}
charge: charge consumer 2/3 retry error=ValueError exception message.nak{delay=0.05,next_attempt=3}
charge: charge consumer 3/3 ack message.ack
  charge: send paid.a producer
    ship: ship consumer 1/5 ack message.ack
""".strip()


@pytest.mark.parametrize("headers", [SAMPLED, None], ids=["sent in a trace", "without headers"])
async def test_attempts_stand_beside_each_other_and_what_follows_below(
    shop: Shop, headers: dict[str, str] | None
) -> None:
    await shop.run()
    sequence = await shop.js.publish("orders.a.retried", b"x", headers)
    trace = TRACE
    if headers is None:
        stored = await shop.js.api("STREAM.MSG.GET.ORDERS", {"seq": sequence})
        trace = traceparent.derived_trace_id("ORDERS", sequence, nanoseconds(stored["message"]["time"]))
    spans = await shop.spans(5, trace)
    assert tree(spans) == ATTEMPTS
    first, second, third, sent, _ = sorted(spans, key=lambda each: each.start_ns)
    assert [each.attributes.get("jetrunner.retry.attempt") for each in (first, second, third)] == [2, 3, None]
    assert first.attributes["jetrunner.retry.delay"] == 0.05
    for each in (first, sent):
        assert each.attributes["server.address"] == "127.0.0.1"
        assert f":{each.attributes['server.port']}" in shop.project.environment["NATS_URL"]


async def test_a_dead_letter_hangs_on_the_last_attempt_and_its_redrive_is_a_trace_that_links_there(
    shop: Shop,
) -> None:
    await shop.run()
    mended, known = shop.project.root / "mended", 0
    for _ in range(3):  # a command does not wait for who stands still: its span may be lost, once
        mended.unlink(missing_ok=True)
        await shop.js.publish("orders.a.refused", b"x", SAMPLED)
        assert tree((await shop.spans(known + 2))[known:]) == (
            "refuse: refuse consumer 1/5 dead_letter error=runner.core.signals.Reject exception message.term{reason=rejected}\n"
            "  refuse: send deadletters.shop.refuse producer"
        )
        known += 2
        before = len(shop.receiver.spans())
        mended.touch()
        done = await asyncio.to_thread(shop.project.runner, "deadletter", "redrive", "--all")
        assert done.code == 0, done.stderr

        def is_back(spans: Sequence[Span], before: int = before) -> bool:
            return any(each.name == "refuse" for each in spans[before:])

        again = (await asyncio.to_thread(shop.receiver.wait, is_back, 60.0))[before:]
        if len(again) == 2:
            break
    assert tree(again) == (
        "shop: send $JETRUNNER.again.shop.refuse producer link\n  refuse: refuse consumer 1/5 ack message.ack link"
    )
    assert {link.trace_id for each in again for link in each.links} == {TRACE}


async def test_a_delay_of_more_than_five_minutes_ends_the_trace_with_a_link_to_it(shop: Shop) -> None:
    await shop.run()
    await shop.js.publish("orders.a.later", b"x", SAMPLED)
    assert tree(await shop.spans(3)) == (
        "remind: remind consumer 1/5 ack message.ack\n"
        "  remind: send soon.x producer\n"
        "  remind: send far.x producer"
    )
    stored = await shop.js.messages("JETRUNNER", "$JETRUNNER.delayed.>")
    by_subject = {each.headers["Jetrunner-Delayed-Subject"]: each.headers for each in stored}
    assert by_subject["soon.x"]["traceparent"].split("-")[1] == TRACE
    far = {name.lower(): text for name, text in by_subject["far.x"].items()}
    assert "traceparent" not in far
    assert far["jetrunner-origin-trace"].split("-")[1] == TRACE


async def test_a_parked_message_is_told_in_its_own_trace_and_runs_there_once_its_key_is_back(
    shop: Shop,
) -> None:
    await shop.run()
    other = {"traceparent": f"00-{'7' * 32}-{SENDER}-01"}
    await shop.js.publish("ledger.a.close", b"x", other)
    await shop.js.publish("ledger.a.close", b"x", SAMPLED)
    (parked,) = await shop.spans(1)
    assert tree([parked]) == "close: park close producer"
    assert parked.attributes["messaging.destination.name"] == "parked.shop.close.a"
    assert parked.attributes["messaging.message.id"] == "PARKED:1"
    (shop.project.root / "mended").touch()
    done = await asyncio.to_thread(shop.project.runner, "parked", "retry", "a")
    assert done.code == 0, done.stderr
    assert tree(await shop.spans(2)) == (
        "close: park close producer\nclose: close consumer 1/1 ack message.ack"
    )
    back = (await shop.spans(2))[1]
    assert back.attributes["messaging.message.id"] == "LEDGER:2"
    assert back.attributes["messaging.destination.partition.id"] == "0"


async def test_a_takeover_tells_who_has_the_shard_from_whom_and_how_long_it_took(shop: Shop) -> None:
    first = await shop.run()
    await first.seen("owns 1 of 1 shard")
    second = await shop.run()
    first.kill()

    def taken(spans: Sequence[Span]) -> list[Span]:
        return [each for each in spans if each.name == "takeover close"]

    await asyncio.to_thread(shop.receiver.wait, lambda spans: len(taken(spans)) == 1, 60.0)
    (span,) = taken(shop.receiver.spans())
    assert tree([span]) == "close: takeover close internal"
    assert f"-{second.pid}-" in str(span.attributes["jetrunner.instance"])
    assert f"-{first.pid}-" in str(span.attributes["jetrunner.takeover.from"])
    assert span.attributes["messaging.destination.partition.id"] == "0"
    assert span.attributes["jetrunner.takeover.unsettled"] == 0
    assert 0 < span.end_ns - span.start_ns < 60e9


@pytest.mark.parametrize(
    ("opted", "events", "logged"), [("", True, False), ("logs", False, True), ("logs/dup", True, True)]
)
async def test_where_an_exception_is_told_can_be_chosen(
    shop: Shop, opted: str, events: bool, logged: bool
) -> None:
    process = shop.project.start("run", "--log-format", "json", OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=opted)
    await process.seen("ready")
    await shop.js.publish("orders.a.retried", b"x", SAMPLED)
    spans = await shop.spans(5)
    assert any(event.name == "exception" for each in spans for event in each.events) == events
    assert [each.status_message for each in spans if each.failed] == ["ValueError: no 1", "ValueError: no 2"]
    line = await process.seen('"retry_after"')
    assert ('"exception.type": "ValueError"' in line and "exception.stacktrace" in line) == logged
