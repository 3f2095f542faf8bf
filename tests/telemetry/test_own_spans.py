"""The runner's own spans are, but for their ids and times, the ones the SDK would have made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags
from opentelemetry.trace import SpanContext, StatusCode

from runner.core import header
from runner.telemetry import settings
from runner.telemetry.attempt import AttemptSpan
from runner.telemetry.functionspans import FunctionSpans
from runner.telemetry.ownspan import OwnSpan
from runner.telemetry.tracing import Tracing
from tests.telemetry.collector import Collector
from tests.telemetry.conftest import PATIENT
from tests.telemetry.delivery import SAMPLED, SENDER, TRACE, UNSAMPLED, facts, start

SHARED = examples(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters=" .*>", exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=300
)  # fmt: skip
HEADERS = st.lists(
    st.sampled_from(
        [
            SAMPLED,
            UNSAMPLED,
            ("Traceparent", f"00-{TRACE}-{SENDER}-03"),
            ("TRACEPARENT", f"00-{TRACE}-{SENDER}-01"),
            ("traceparent", f"00-{'0' * 32}-{SENDER}-01"),
            ("traceparent", f"01-{TRACE}-{SENDER}-01-more"),
            ("traceparent", "no"),
            ("X-traceparent", f"00-{SENDER * 2}-{SENDER}-01"),
            ("tracestate", "vendor=x,other=y"),
            ("baggage", "tenant=blue"),
            ("Jetrunner-Origin-Trace", f"00-{SENDER * 2}-{SENDER}-01"),
            ("Tenant", "acme"),
        ]
    ),
    max_size=3,
)
SAMPLERS = ["", "always_on", "parentbased_always_on", "parentbased_traceidratio", "traceidratio"]


@dataclass
class Delivered:
    """A message as the engine has it."""

    reply: bytes
    sequence: int
    subject: bytes
    header: bytes | None
    body: bytes
    attempt: int


class Both(NamedTuple):
    """The same process with spans of its own, and with the SDK's."""

    own: Tracing
    sdk: Tracing
    collector: Collector
    sampler: str

    def same(self, act: Callable[[Tracing], Any], *, roots: bool = False) -> list[Span]:
        """Do something in both, hold what arrives against one another, and return it; of `roots`, the trace ids differ."""
        arrived = []
        for tracing in self.own, self.sdk:
            act(tracing)
            assert tracing.flush(60)
            arrived.append(self.collector.taken())
            made = {span.span_id for _, span in arrived[-1]}
            for _, span in arrived[-1]:
                remote = span.flags & SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
                assert remote or not span.parent_span_id or span.parent_span_id in made
                if roots:
                    span.trace_id = b""
        assert [plain(each) for each in arrived[0]] == [plain(each) for each in arrived[1]]
        return [span for _, span in arrived[0]]


def plain(arrived: tuple[str, Span]) -> tuple[str, str]:
    """A span without what differs: the ids that are made, times, and the order of attributes."""
    place, span = arrived[0], Span.FromString(arrived[1].SerializeToString())
    assert len(span.span_id) == 8
    assert span.start_time_unix_nano <= span.end_time_unix_nano
    if span.parent_span_id and not span.flags & SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK:
        span.parent_span_id = b"made here"
    span.span_id, span.start_time_unix_nano, span.end_time_unix_nano = b"", 0, 0
    for event in span.events:
        assert event.time_unix_nano
        event.time_unix_nano = 0
    span.attributes.sort(key=lambda pair: pair.key)
    return place, str(span)


@pytest.fixture(scope="module", params=SAMPLERS)
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        collector = stack.enter_context(Collector())
        patch.setenv("NO_PROXY", "127.0.0.1")
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_TRACES_SAMPLER": request.param,
            "OTEL_TRACES_SAMPLER_ARG": "0.5",
            "OTEL_RESOURCE_ATTRIBUTES": "zone=ä",
            "OTEL_BSP_SCHEDULE_DELAY": "60000",
            **PATIENT,
        }
        own = Tracing(settings.load(environ), "shop")
        stack.callback(own.shutdown, 1.0)
        patch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "128")  # its default, which the SDK alone obeys
        sdk = Tracing(settings.load(environ), "shop")
        stack.callback(sdk.shutdown, 1.0)
        yield Both(own, sdk, collector, request.param)


@SHARED
@given(
    headers=HEADERS,
    subject=WORDS,
    stream=WORDS,
    sequence=st.integers(0, 1 << 63),
    body_size=st.integers(0, 1 << 40),
    attempt=st.integers(1, 1 << 40),
    template=WORDS,
    error=TEXT | st.builds(ValueError, TEXT),
    end=st.sampled_from(["ack", "retry", "dead letter"]),
    delay=st.floats(0, 1000),
    server=st.booleans(),
)
def test_an_attempt_and_what_it_sends(
    both: Both, headers: list[tuple[str, str]], error: BaseException | str, end: str, delay: float, server: bool, **more: Any
) -> None:  # fmt: skip
    def act(tracing: Tracing) -> None:
        tracing.server = {"server.address": "n", "server.port": 4222} if server else {}
        span = start(tracing, *headers, **more)
        sent = span.output(more["subject"], "PAID", template=more["template"], delay=delay)
        sent.end(stream="PAID", sequence=more["sequence"])
        match end:
            case "ack":
                span.end_ack()
            case "retry":
                span.end_retry(error, delay, more["attempt"] + 1)
            case _:
                dead = span.dead_letter("deadletters.shop.charge")
                dead.end(error=error)
                span.end_dead_letter("exhausted", error)
        carried.append([[name for name, _ in each] for each in (sent.headers, span.inject())])

    carried: list[Any] = []
    both.same(act)
    assert carried[0] == carried[1]


@SHARED
@given(
    headers=HEADERS,
    subject=WORDS,
    stream=WORDS,
    sequence=st.integers(0, 1 << 63),
    attempt=st.integers(1, 3),
    body=st.binary(max_size=200),
)
def test_what_begins_quickly_is_what_begins_slowly(
    both: Both,
    headers: list[tuple[str, str]],
    subject: str,
    stream: str,
    sequence: int,
    attempt: int,
    body: bytes,
) -> None:
    spans = both.own.spans("charge", "shop-charge", "orders.*", 5)
    block = header.encode(headers) if headers else None
    reply = f"$JS.ACK.{stream}.shop-charge.1.{sequence}.9.1700000000000000000.3".encode()
    quick = spans.begin(Delivered(reply, sequence, subject.encode(), block, body, attempt))
    if quick is None:
        unusual = {name.lower() for name, _ in headers} - {"tenant"}
        assert unusual or not (subject + stream).isascii() or len(subject + stream) > 400
        return
    slow = spans.start(subject, stream, sequence, 1_700_000_000_000_000_000, attempt, block, len(body))
    one, two = (written(each) for each in (quick, slow))
    assert plain(("", one)) == plain(("", two))
    assert (quick.sampled, quick.trace_id) == (slow.sampled, slow.trace_id)
    parents = [each.inject()[0][1].rpartition("-")[2] for each in (quick, slow)]
    assert parents[0] == parents[1]


def written(span: AttemptSpan) -> Span:
    """What would be sent of an attempt now."""
    own = span._span
    assert isinstance(own, OwnSpan)
    found: Span = Span.FromString(own.encoded(own.start_ns))
    return found


@pytest.mark.parametrize("headers", [(), (SAMPLED,), (SAMPLED, ("Tenant", "acme"))])
def test_what_is_usual_begins_quickly(both: Both, headers: tuple[tuple[str, str], ...]) -> None:
    spans: FunctionSpans = both.own.spans("charge", "shop-charge", "orders.*", 5)
    block = header.encode(headers) if headers else None
    reply = b"$JS.ACK.ORDERS.shop-charge.1.7.9.1700000000000000000.3"
    assert spans.begin(Delivered(reply, 7, b"orders.c1", block, b"{}", 1)) is not None


def write(tracing: Tracing) -> None:
    """A handler that writes on the span it finds."""
    span = start(tracing, SAMPLED, ("tracestate", "vendor=x"))
    span.activate()
    current = trace.get_current_span()
    assert current.is_recording() == span.sampled
    current.set_attribute("messaging.system", "ours")
    current.set_attributes({"many": ["a", "b"], "of": {"a": 1}, "odd": 1 << 70})
    current.add_event("seen", {"what": True})
    current.add_link(SpanContext(7, 8, is_remote=True), {"why": "so"})
    current.update_name("charge them")
    current.record_exception(ValueError("no"), timestamp=1)
    current.set_status(StatusCode.OK)
    span.deactivate()
    span.end_retry("again", 1.0, 2)
    assert not current.is_recording()


def test_what_a_handler_writes_on_its_current_span_is_seen(both: Both) -> None:
    spans = both.same(write)
    for span in spans:
        assert {pair.key for pair in span.attributes} >= {"many", "of", "jetrunner.outcome", "faas.name"}
        assert [event.name for event in span.events] == ["seen", "exception", "message.nak"]
        assert (span.name, span.parent_span_id.hex(), span.trace_id.hex()) == ("charge them", SENDER, TRACE)


def test_what_a_handler_reads_on_its_current_span_is_what_the_sdk_says(both: Both) -> None:
    read = []
    for tracing in both.own, both.sdk:
        span = start(tracing, SAMPLED)
        span.activate()
        current: Any = trace.get_current_span()
        if current.is_recording():
            facts = (
                current.parent.span_id,
                current.parent.is_remote,
                current.name,
                current.kind,
                current.links,
            )
            read.append((*facts, dict(current.attributes), current.resource.attributes))
        span.deactivate()
        span.end_ack()
        assert tracing.flush(60)
    both.collector.taken()
    assert read[:1] == read[1:]


def test_a_span_that_was_written_on_keeps_its_ids(both: Both) -> None:
    span = start(both.own, SAMPLED)
    (before,) = span.inject()
    span.activate()
    trace.get_current_span().set_attribute("a", 1)
    (after,) = span.inject()
    assert after == before
    if span.sampled:
        assert trace.get_current_span().attributes["a"] == 1  # type: ignore[attr-defined]  # of the SDK's spans
    span.deactivate()
    span.end_ack()
    assert both.own.flush(60)
    arrived = [each for _, each in both.collector.taken()]
    assert [(each.trace_id.hex(), each.span_id.hex()) for each in arrived] == (
        [tuple(before[1].split("-")[1:3])] if span.sampled else []
    )


@pytest.mark.parametrize("headers", [SAMPLED, UNSAMPLED])
def test_what_is_published_in_a_trace(both: Both, headers: tuple[str, str]) -> None:
    def act(tracing: Tracing) -> None:
        with tracing.publish_span("orders.c1.created", "orders.{c}.created", headers=[headers]) as sent:
            sent.stored("ORDERS", 7)
        with pytest.raises(ConnectionError), tracing.publish_span("a", headers=[headers]):
            raise ConnectionError("gone")

    both.same(act)


def test_what_begins_a_trace(both: Both) -> None:
    def act(tracing: Tracing) -> None:
        with tracing.publish_span("orders.c1.created"):
            pass
        with tracing.redrive_span(
            "$JETRUNNER.again.shop.charge", [("Jetrunner-Origin-Trace", SAMPLED[1]), SAMPLED]
        ):
            pass

    if "ratio" in both.sampler:  # which of them would be taken is luck
        return
    _, redriven = both.same(act, roots=True)
    assert [link.trace_id.hex() for link in redriven.links] == [TRACE]


def test_a_users_own_sdk_gets_the_sdks_spans(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    tracing = Tracing(
        settings.load({"OTEL_EXPORTER_OTLP_ENDPOINT": both.collector.endpoint, **PATIENT}), "shop"
    )
    tracing.install()
    span = tracing.start_attempt("charge", **facts(SAMPLED))
    span.activate()
    assert isinstance(trace.get_current_span(), ReadableSpan)
    span.deactivate()
    span.end_ack()
    assert tracing.flush(60)
    assert tracing.shutdown(60)
    assert [each.name for _, each in both.collector.taken()] == ["charge"]
