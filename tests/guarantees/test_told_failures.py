"""What the log of `runner run` says of an attempt that failed: what, in which line of the code, and in which trace."""

from __future__ import annotations

import pytest

from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
FAILING = """
    from json import loads

    def deeper(text):
        return loads(text)

    @consume("orders.{id}", retry=RetryPolicy(attempts=2, delay=0))
    async def charge(order: Order, ctx: Context) -> None:
        if order.note == "reject":
            raise Reject("no")
        deeper(order.note)
"""


@pytest.mark.parametrize("exporter", ["none", "otlp"])
async def test_every_failed_attempt_names_its_line_and_its_trace(shop: Shop, exporter: str) -> None:
    await shop.open(FAILING)
    traced = {"OTEL_TRACES_EXPORTER": exporter, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    process = shop.run(**traced)
    await shop.order(1, note="{", headers=HEADERS)
    why = r"JSONDecodeError: Expecting .*, at functions/shop\.py:15 in deeper, trace " + TRACE
    await process.seen(rf"charge: attempt 1 of 2 at ORDERS:1 failed and comes again in 0 s: {why}")
    await process.seen(rf"charge: ORDERS:1 is a dead letter, exhausted: {why}")


async def test_a_rejection_names_its_trace_alone_and_no_trace_is_made_up(shop: Shop) -> None:
    await shop.open(FAILING)
    process = shop.run()
    await shop.order(1, note="reject", headers=HEADERS)
    await process.seen(rf"ORDERS:1 is a dead letter, rejected: Reject: no, trace {TRACE}$")
    await shop.order(2, note="reject", headers={"traceparent": "00-x"})
    await process.seen(r"ORDERS:2 is a dead letter, rejected: Reject: no$")
    await shop.js.publish("orders.3", b"no JSON", HEADERS)
    await process.seen(rf"ORDERS:3 is a dead letter, undecodable: .*, trace {TRACE}$")
