"""`runner trace`: a waterfall of what `runner dev` keeps, or a Jaeger."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runner.telemetry.receiver import Receiver
from tests.support.dev import ORDERS, started
from tests.support.eventually import until
from tests.support.jaeger import running
from tests.support.port import free_port
from tests.support.process import Finished
from tests.support.project import Project

pytestmark = pytest.mark.server

SHOP = """
    from runner import Context, RetryPolicy, consume

    @consume("orders.{kind}", output="payments.{kind}", retry=RetryPolicy.fixed(0.3, attempts=2))
    async def charge(body: bytes, kind: str, ctx: Context) -> bytes:
        if ctx.attempt == 1:
            raise ValueError("the bank is closed")
        return body
"""
PAYMENTS = 'name = "PAYMENTS"\nsubjects = ["payments.*"]\n'
TRACED = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TIMEOUT": "60000"}
TRIES = 3
"""What is published is gone in a moment, and its span lost where nobody takes that then: a machine may stand still, once."""


@pytest.fixture
def shop(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"shop": SHOP}, streams={"orders": ORDERS, "payments": PAYMENTS})


def shown(project: Project, *arguments: str, lines: int) -> Finished:
    """What is shown, once it has as many lines: spans come a second after they end."""
    done: list[Finished] = []

    def whole() -> bool:
        done[:] = [project.runner("trace", *arguments)]
        return len(done[0].stdout.splitlines()) >= lines

    try:
        until(whole)
    except AssertionError:
        raise AssertionError(f"not shown: {done}") from None
    return done[0]


def test_dev_keeps_the_trace_of_a_message_from_its_publish_on(shop: Project) -> None:
    elsewhere = {**TRACED, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    dev = started(shop, **elsewhere)
    shop.environment |= TRACED
    for number in range(1, TRIES + 1):
        message = f"ORDERS:{number}"
        assert shop.runner("publish", "orders.one", "x").stdout == f"{message}\n"
        trace_id = dev.line(f"✓  charge  {message}").rpartition("runner trace ")[2]
        done = shown(shop, message, lines=5)
        if "send orders.one" in done.stdout:
            break
    head, publish, first, second, output, failure = done.stdout.splitlines()
    assert head.startswith(f"trace {trace_id}, 4 spans, 2 services, ")
    assert publish.startswith("shop    send orders.one")
    # 120 columns into a pipe: if the attempt had to wait, the rest of the line is cut.
    noted = r"(retry, again in 0.3 s: Val|after [\d.]+ m?s, retry, ag.*…$)"
    assert re.match(rf"charge  └ ✗ charge #1 .*{message}, {noted}", first)
    assert re.match(rf"charge  └ charge #2 .*·+\S* .*{message}, after [\d.]+ m?s, ack$", second)
    assert re.match(rf"charge    └ send payments.one .*PAYMENTS:{number}$", output)
    place = shop.root / "functions" / "shop.py"
    assert failure == f"✗ charge #1: ValueError: the bank is closed, at {place}:7 in charge"
    assert done.stderr == ""
    assert shop.runner("trace", trace_id.upper()).stdout == done.stdout
    found = shop.json("trace", trace_id)
    assert (found["traces"], found["trace_urls"], len(found["spans"])) == ([trace_id], {}, 4)


PROGRAM = """
import asyncio

import runner


async def main() -> None:
    async with runner.connect() as app:
        await app.publish("orders.two", b"x")


asyncio.run(main())
"""


def test_dev_keeps_what_a_program_in_its_folder_publishes(shop: Project) -> None:
    dev = started(shop, **TRACED, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    environment = {name: text for name, text in shop.environment.items() if not name.startswith("OTEL_")}
    for number in range(1, TRIES + 1):
        subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=shop.root, env=environment, check=True, timeout=60
        )
        dev.line(f"✓  charge  ORDERS:{number}")
        told = shown(shop, f"ORDERS:{number}", lines=5).stdout
        if "send orders.two" in told:
            break
    assert re.search(r"^shop +send orders.two ", told, re.MULTILINE)


def test_dev_sends_on_to_a_collector_what_it_keeps(shop: Project) -> None:
    with Receiver() as receiver:
        dev = started(shop, **TRACED, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        shop.environment |= TRACED

        def whole(trace: str) -> bool:
            spans = receiver.trace(trace)
            return sum(each.name == "charge" for each in spans) == 2 and "2 services" in told

        for number in range(1, TRIES + 1):
            assert shop.runner("publish", "orders.one", "x").code == 0
            line = dev.line(f"✓  charge  ORDERS:{number} .*  http://localhost:16686/trace/[0-9a-f]{{32}}$")
            told = shown(shop, f"ORDERS:{number}", lines=5).stdout
            with suppress(TimeoutError):
                receiver.wait(lambda _, line=line: whole(line[-32:]), 20)  # type: ignore[misc]
                break
        assert whole(line[-32:])
        began = time.monotonic()
        dev.interrupt()
        assert dev.wait() == 0
        assert time.monotonic() - began < 15  # a second where nothing else runs


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["orders"], 2, "neither a trace id nor a message"),
        (["ORDERS:0"], 2, "neither a trace id nor a message"),
        (["a" * 32, "--jaeger", "http://127.0.0.1:1"], 1, "Jaeger at http://127.0.0.1:1 (does not answer)"),
        (["a" * 32, "--jaeger", "localhost"], 2, "a URL is expected"),
    ],
)
def test_what_is_not_found_is_an_error_that_says_where_it_was_looked_for(
    shop: Project, arguments: list[str], code: int, error: str
) -> None:
    done = shop.runner("trace", *arguments)
    assert (done.code, error in done.stderr, done.stdout) == (code, True, "")


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Where a real one takes spans, and where it answers."""
    if not os.environ.get("JAEGER_BIN"):
        pytest.skip("JAEGER_BIN does not name a Jaeger binary: nothing here was tested against a real Jaeger")
    otlp, page = free_port(), free_port()
    with running(tmp_path, otlp=otlp, page=page):
        yield f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{page}"


def test_a_jaeger_is_asked_by_trace_and_by_message(shop: Project, jaeger: tuple[str, str]) -> None:
    collector, page = jaeger
    traced = {**TRACED, "OTEL_EXPORTER_OTLP_ENDPOINT": collector}
    shop.environment |= traced | {"JETRUNNER_TRACE_URL": f"{page}/trace/{{trace_id}}"}
    dev = started(shop)
    shop.runner("publish", "orders.one", "x")
    link = dev.line("✓  charge  ORDERS:1").rpartition("  ")[2]
    dev.interrupt()
    assert dev.wait() == 0
    done = shown(shop, link.rpartition("/")[2], lines=7)
    assert "4 spans, 2 services" in done.stdout
    assert "✗ charge #1: ValueError: the bank is closed" in done.stdout
    assert done.stdout.splitlines()[-1] == link
    # The server of dev has ended: the message is found by its spans.
    shop.environment["NATS_URL"] = "nats://127.0.0.1:1"
    found = shop.runner("trace", "ORDERS:1", "--jaeger", page)
    assert found.stdout == done.stdout
    assert "is looked for among spans alone" in found.stderr


def test_a_jaeger_is_asked_over_http_alone(make_project: Callable[..., Project], tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "services").write_text('{"data": []}')
    shop = make_project(functions={"shop": SHOP}, nats="nats://127.0.0.1:1")
    ended = shop.runner("trace", "0" * 31 + "1", "--jaeger", tmp_path.as_uri())
    assert ended.code == 2
    assert "a URL is expected, as http://localhost:16686" in ended.stderr
