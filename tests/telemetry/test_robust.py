"""A collector that refuses, hangs, is slow, or answers 503: messages are handled as ever, the end is bounded, and what was lost is told."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import pytest

from runner.telemetry.receiver import Receiver
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.collector import Collector
from tests.telemetry.conftest import PATIENT
from tests.telemetry.test_faults import unavailable

__all__ = ["unavailable"]

pytestmark = [pytest.mark.server, pytest.mark.anyio]

COUNT = 2_000
SHOP = """
    import logging
    import time

    from journal import note
    from runner import Context, RetryPolicy, consume

    times: list[float] = []

    @consume("orders.*")
    async def charge(body: bytes) -> None:
        times.append(time.monotonic())
        if body == b"last":
            note("told", gap=max(after - before for before, after in zip(times, times[1:])))
            times.clear()

    @consume("notes.*", retry=RetryPolicy.fixed(0.01, attempts=2))
    async def write(body: bytes, ctx: Context) -> None:
        logging.getLogger("functions.elsewhere").warning("by a library")
        ctx.log.warning("by the context")
        if ctx.attempt == 1:
            raise ValueError("once more")
"""
LONG = 1.5
"""Seconds; an export waits for three."""
TRIES = 3
"""A busy machine may stand still in one of them; whoever waits for the collector does so in each."""
SAMPLED = {"traceparent": f"00-{'5' * 32}-{'6' * 16}-01"}


@pytest.fixture
async def project(make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream) -> Project:
    await js.create("ORDERS", ["orders.*", "notes.*"])
    return make_project(functions={"shop": SHOP}, nats=nats_server.url)


async def handled(project: Project, js: RawJetStream) -> int:
    """Many traced messages; none waits for the collector. Returns how many."""
    before = len(project.journal("told"))
    for tried in range(1, TRIES + 1):
        sending = [js.client.publish("orders.a", b"x", headers=SAMPLED) for _ in range(COUNT)]
        await asyncio.gather(*sending)
        await js.publish("orders.a", b"last", SAMPLED)
        await eventually(lambda tried=tried: len(project.journal("told")) == before + tried)  # type: ignore[misc]  # a default binds it
        if project.journal("told")[-1]["gap"] < LONG:
            return tried * (COUNT + 1)
    raise AssertionError(f"waited for the collector: {project.journal('told')}")


async def lost(port: int) -> int:
    """What the metrics tell of lost spans."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    found = re.search(r"^jetrunner_spans_lost_total (\d+)\.0$", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.fixture(params=["refused", "hung", "slow", "unavailable"])
async def collector(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The address of one that does not do its work."""
    with ExitStack() as stack:
        if request.param == "refused":
            yield f"http://127.0.0.1:{free_port()}"
        elif request.param == "unavailable":
            yield request.getfixturevalue("unavailable")
        elif request.param == "hung":
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        else:
            slow = stack.enter_context(Collector())
            slow.open.clear()
            yield slow.endpoint


def started(project: Project, endpoint: str, *arguments: str, **more: str) -> RunnerProcess:
    traced = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    return project.start("run", *arguments, **traced, **more)


async def test_no_message_waits_for_a_collector_and_the_end_is_bounded(
    project: Project, js: RawJetStream, collector: str
) -> None:
    port = free_port()
    limits = {"OTEL_BSP_MAX_QUEUE_SIZE": "500", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100"}
    process = started(project, collector, "--health", f"127.0.0.1:{port}", **limits)
    await process.seen("ready")
    await handled(project, js)

    async def told() -> bool:
        return await lost(port) > COUNT / 2

    await eventually(told)
    began = time.monotonic()
    process.terminate()
    assert await process.ended() == 0
    assert time.monotonic() - began < 15  # about three; ten seconds for each of some batches without a bound
    lines = [line for line in process.stderr if " telemetry: " in line]
    assert 1 <= len(lines) <= 3, lines
    assert any("traces do not arrive at" in line or "spans were dropped" in line for line in lines)


async def test_once_the_collector_is_back_spans_arrive_and_it_is_told_how_many_were_lost(
    project: Project, js: RawJetStream
) -> None:
    for _ in range(TRIES):
        port = free_port()
        process = started(project, f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_TIMEOUT="0.5")
        await process.seen("ready")
        sent = await handled(project, js)
        await process.seen("traces do not arrive at")
        with Receiver(port) as receiver:

            async def told(process: RunnerProcess = process) -> bool:
                nonlocal sent
                await js.publish("orders.b", b"x", SAMPLED)
                sent += 1
                return any("traces arrive at" in line for line in process.stderr)

            await eventually(told)
            process.terminate()
            assert await process.ended() == 0
            arrived = receiver.spans()
        if process.output.count("traces do not arrive at") == 1:  # a receiver that stands still loses more
            break
    (line,) = [line for line in process.stderr if "traces arrive at" in line]
    found = re.search(r"traces arrive at \S+ again; (\d+) spans were lost", line)
    assert found is not None, line
    assert int(found[1]) > 0
    assert int(found[1]) + len(arrived) >= sent, "what is neither there nor told"
    assert any(each.attributes.get("messaging.destination.name") == "orders.b" for each in arrived)


@pytest.mark.parametrize("traced", ["otlp", "none"])
async def test_a_line_of_the_log_as_json_tells_trace_message_function_and_attempt(
    project: Project, js: RawJetStream, traced: str
) -> None:
    with Receiver() as receiver:
        process = project.start(
            "run",
            "--log-format",
            "json",
            OTEL_TRACES_EXPORTER=traced,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            **PATIENT,
        )
        await process.seen("ready")
        for headers in (SAMPLED, {"traceparent": SAMPLED["traceparent"][:-1] + "0"}):
            sequence = await js.publish("notes.a", b"x", headers)
            about = f'"message_id": "ORDERS:{sequence}"'

            def lines(about: str = about) -> list[dict[str, object]]:
                return [json.loads(line) for line in process.stderr if about in line and '"by ' in line]

            async def all_there(about: str = about) -> bool:
                return len(lines(about)) == 4

            await eventually(all_there)
            for line in lines():
                assert (line["function"], line["trace_id"]) == ("write", "5" * 32), line
            assert sorted(int(str(line["attempt"])) for line in lines()) == [1, 1, 2, 2]
            stamp = str(lines()[0]["time"])
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
            (failed,) = [
                json.loads(line) for line in process.stderr if '"retry_after"' in line and about in line
            ]
            assert (failed["function"], failed["attempt"], failed["trace_id"]) == ("write", 1, "5" * 32)
            assert failed["where"].startswith("functions/shop.py:")
