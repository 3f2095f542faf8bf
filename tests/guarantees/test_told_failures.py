"""What the log of `runner run` says of an attempt that failed: what, in which line of the code, and in which trace."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
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
    await process.seen(rf"charge: attempt 1 of 2 at ORDERS:1 failed; retrying in 0 s: {why}")
    await process.seen(rf"charge: ORDERS:1 is a dead letter, exhausted: {why}")


async def test_at_the_level_debug_every_attempt_has_its_traceback(shop: Shop) -> None:
    await shop.open(FAILING)
    process = shop.run("--log-level", "debug")
    await shop.order(1, note="{")
    await process.seen("ORDERS:1 is a dead letter")
    await eventually(lambda: process.stderr.count("  Traceback (most recent call last):") == 2)
    assert sum(line.strip() == "return loads(text)" for line in process.stderr) == 2


async def test_a_rejection_names_its_trace_alone_and_no_trace_is_made_up(shop: Shop) -> None:
    await shop.open(FAILING)
    process = shop.run()
    await shop.order(1, note="reject", headers=HEADERS)
    await process.seen(rf"ORDERS:1 is a dead letter, rejected: Reject: no, trace {TRACE}$")
    await shop.order(2, note="reject", headers={"traceparent": "00-x"})
    await process.seen(r"ORDERS:2 is a dead letter, rejected: Reject: no$")
    await shop.js.publish("orders.3", b"no JSON", HEADERS)
    await process.seen(rf"ORDERS:3 is a dead letter, undecodable: .*, trace {TRACE}$")


def documents(process: RunnerProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.stderr]


@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
async def test_the_log_as_json_says_the_same_in_fields(shop: Shop, workers: tuple[str, ...]) -> None:
    await shop.open(
        """
    class Odd:
        def __str__(self):
            raise ValueError

    @consume("orders.{id}", retry=RetryPolicy(attempts=2, delay=0))
    async def charge(order: Order, ctx: Context) -> None:
        ctx.log.info("charging\\n%s", order.id, extra={"order": order, "odd": Odd(), "time": "mine"})
        raise ValueError("unlucky")
    """
    )
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "otlp"}
    process = shop.run("--log-format", "json", *workers, **traced)
    await shop.order(1, headers=HEADERS)
    await process.seen("is a dead letter")
    said = documents(process)
    (retry,) = (each for each in said if "retry_after" in each)
    (dead,) = (each for each in said if each.get("reason") == "exhausted")
    common = {
        "function": "charge", "message_id": "ORDERS:1", "trace_id": TRACE, "error": "ValueError: unlucky",
        "logger": "jetrunner.attempts", "where": "functions/shop.py:19 in charge",
    }  # fmt: skip
    assert retry.items() >= {**common, "attempt": 1, "retry_after": 0, "level": "info"}.items()
    assert dead.items() >= {**common, "attempt": 2, "level": "warning"}.items()
    assert dead["time"].endswith("Z")
    assert abs(datetime.fromisoformat(dead["time"]).timestamp() - time.time()) < 60
    first, second = (each for each in said if each["logger"] == "jetrunner.functions.charge")
    assert (first["message"], first["attempt"], second["attempt"]) == ("charging\n1", 1, 2)
    assert (first["order"], first["odd"], first["trace_id"]) == ({"id": 1, "note": ""}, "(Odd)", TRACE)
    assert first["time"] != "mine"
