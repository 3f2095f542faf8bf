"""A request of a handler that is asked again elsewhere, as it arrives at a collector: each try is a span."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.conftest import PATIENT
from tests.telemetry.tree import tree

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TRACE = f"{7:032x}"
STREAM = 'name = "CARTS"\nsubjects = ["carts.*", "offers.*"]'
FUNCTIONS = """
    import os
    from runner import Context, consume, reply

    @reply("quotes.{customer}", idempotent=True)
    async def quote(customer: str) -> int:
        if "BROKEN" in os.environ:
            raise OSError("no route")
        return 7

    @consume("carts.{customer}", output="offers.{customer}")
    async def offer(customer: str, ctx: Context) -> int:
        return await ctx.request(f"quotes.{customer}", None, returns=int, policy="round_robin")
"""

DIRECT = """
offer: offer consumer 1/5 ack message.ack
  offer: request quotes.* client
    quote: quote server
  offer: send offers.{number} producer
""".strip()
FAILED_OVER = """
offer: offer consumer 1/5 ack message.ack
  offer: request quotes.* client error=runner.errors.ServiceError exception
    quote: quote server error=OSError exception
  offer: request quotes.* client
    quote: quote server
  offer: send offers.{number} producer
""".strip()


async def test_a_request_that_is_failed_over_is_a_try_that_failed_beside_one_that_did_not(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(functions={"shop": FUNCTIONS}, streams={"carts": STREAM}, nats=nats_server.url)
    await project.applied()
    with Receiver() as receiver:
        told = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, **PATIENT}
        await project.start("run", "--only", "quote", BROKEN="1", **told).seen("ready: ")
        await project.start("run", "--only", "quote", **told).seen("ready: ")
        await project.start("run", "--only", "offer", **told).seen("ready: ")
        for number in range(8):  # one after the other: the first may know of one instance alone
            await js.publish(f"carts.{number}", None, {"traceparent": f"00-{TRACE}-{number + 1:016x}-01"})
            await eventually(lambda subject=f"offers.{number}": js.messages("CARTS", subject))  # type: ignore[misc]
        # On a busy machine an instance may be late, and another be asked beside it: there are other trees, too.
        spans = receiver.wait(lambda spans: {DIRECT, FAILED_OVER} <= shapes(spans), 60)
    tries = [span for span in spans if span.name == "request quotes.*"]
    assert {span.attributes["jetrunner.try"] for span in tries} >= {1, 2}
    assert len({span.attributes["jetrunner.instance"] for span in tries}) == 2


def shapes(spans: list[Span]) -> set[str]:
    """The trees below each attempt that has asked."""
    return {unnumbered(tree([root, *below(root.span_id, spans)])) for root in spans if root.name == "offer"}


def below(parent: str, spans: list[Span]) -> list[Span]:
    """All spans below one."""
    children = [span for span in spans if span.parent_id == parent]
    return [*children, *(each for child in children for each in below(child.span_id, spans))]


def unnumbered(text: str) -> str:
    """The same without the number of the customer, and what an exception's event says."""
    text = re.sub(r"offers\.\d", "offers.{number}", text)
    return re.sub(r"exception\{[^}]*\}", "exception", text)
