"""A message that is not traced: what its handler asks elsewhere carries its trace on, not sampled, and its baggage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runner.telemetry.passing import Passings
from runner.telemetry.receiver import Receiver
from runner.telemetry.tracing import Tracing
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.conftest import PATIENT

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TRACE, SENDER = "3" * 32, "4" * 16
UNSAMPLED = {"traceparent": f"00-{TRACE}-{SENDER}-00", "baggage": "tenant=acme"}

SHOP = """
    {imports}

    from journal import note
    from opentelemetry import baggage, trace
    from runner import RetryPolicy, consume

    def told(kind):
        context = trace.get_current_span().get_span_context()
        return dict(
            kind=kind, trace=f"{{context.trace_id:032x}}", span=f"{{context.span_id:016x}}", flags=int(context.trace_flags),
            remote=context.is_remote, tenant=baggage.get_baggage("tenant"),
        )

    @consume("orders.async")
    async def first(body: bytes) -> None:
        note("told", **told("async"))

    @consume("orders.thread")
    def second(body: bytes) -> None:
        note("told", **told("thread"))

    @consume("orders.again", retry=RetryPolicy(attempts=2, delay=0))
    async def third(body: bytes) -> None:
        if not hasattr(third, "ran"):
            third.ran = True
            raise ValueError("once more")
        note("told", **told("again"))

    @consume("orders.process", executor="process")
    def fourth(body: bytes) -> None:
        note("told", **told("process"))
"""
PROPAGATES = "from opentelemetry import propagate"


@pytest.fixture
async def told(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, receiver: Receiver
) -> Callable[..., Any]:
    await js.create("ORDERS", ["orders.*"])

    async def run(imports: str, headers: dict[str, str] | None, *kinds: str) -> dict[str, dict[str, Any]]:
        project = make_project(functions={"shop": SHOP.format(imports=imports)}, nats=nats_server.url)
        traced = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, **PATIENT}
        process = project.start("run", **traced, OTEL_TRACES_SAMPLER="parentbased_always_off")
        await process.seen("ready")
        for kind in kinds:
            await js.publish(f"orders.{kind}", b"x", headers)
        await eventually(lambda: len(project.journal("told")) == len(kinds))
        assert receiver.spans() == []
        return {each["kind"]: each for each in project.journal("told")}

    return run


async def test_a_handler_finds_the_trace_and_the_baggage_of_its_message(told: Callable[..., Any]) -> None:
    kinds = ("async", "thread", "again", "process")
    found = await told(PROPAGATES, UNSAMPLED, *kinds)
    for kind in kinds:
        each = found[kind]
        assert (each["trace"], each["span"], each["flags"], each["remote"]) == (TRACE, SENDER, 0, True), kind
        assert each["tenant"] == "acme"


async def test_without_a_trace_it_finds_that_which_the_message_would_have_had(
    told: Callable[..., Any],
) -> None:
    found = await told(PROPAGATES, None, "async", "again")
    assert all(each["flags"] == 0 and int(each["trace"], 16) for each in found.values())


async def test_where_nobody_carries_anything_on_no_context_is_made(told: Callable[..., Any]) -> None:
    found = await told("", UNSAMPLED, "async")
    assert (int(found["async"]["trace"], 16), found["async"]["tenant"]) == (0, None)


class Delivery:
    reply = b"$JS.ACK.ORDERS.shop-charge.1.7.7.1900000000000000000.0"
    sequence = 7
    header: bytes | None = b"NATS/1.0\r\nbaggage: tenant=acme\r\n\r\n"
    attempt = 1


def test_what_is_read_of_a_context_is_the_same_however_it_is_read(tracing: Tracing) -> None:
    passings = tracing.passing("charge") or Passings(
        tracing._source.propagation, tracing.unsampled_headers, "charge"
    )
    whole = passings.read(Delivery())
    assert len(whole) == 3
    reads: list[Callable[[Any], Any]] = [
        dict, lambda each: {**each}, lambda each: each.copy(), lambda each: {key: each[key] for key in each},
        lambda each: dict(each.items()), lambda each: dict(zip(each.keys(), each.values(), strict=True)),
        lambda each: {key: each.get(key) for key in whole if key in each and len(each) == 3},
    ]  # fmt: skip
    for read in reads:
        assert read(passings(Delivery())).keys() == whole.keys()
