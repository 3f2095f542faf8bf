"""`runner dev`: reload within a second, and mistakes that stop nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from runner.telemetry.receiver import Receiver
from tests.support.dev import ORDERS, SHOP, arguments, said, started, version
from tests.support.eventually import until
from tests.support.project import Project, write

pytestmark = pytest.mark.server
LEDGER = """
    import asyncio

    from runner import RetryPolicy, consume

    @consume("orders.{customer}", ordered_by="customer", retry=RetryPolicy.fixed(0.01, attempts=3))
    async def post(body: bytes) -> None:
        await asyncio.sleep(0.05)
        raise ValueError("unlucky")
"""

QUICK = 2.5
"""Seconds: half of one where nothing else runs, and over three if the end waited for the collector."""

HOOK = """
    from runner import Reject, around

    @around
    async def hook(ctx, call):
        raise Reject("by the hook")
"""


@pytest.fixture
def shop(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"shop": SHOP}, streams={"orders": ORDERS})


def edit(project: Project, old: str, new: str) -> float:
    """Change the function's file; when."""
    file = project.root / "functions" / "shop.py"
    write(file, file.read_text().replace(old, new))
    return time.monotonic()


@pytest.fixture
def collector() -> Iterator[str]:
    """The address of something that listens, and takes its time to answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_every_attempt_is_a_line_with_its_trace(shop: Project, collector: str) -> None:
    traced = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector}
    dev = started(shop, **traced, JETRUNNER_TRACE_URL="http://traces/{trace_id}")
    for kind in ("ok", "odd", "bad"):
        shop.runner("publish", f"orders.{kind}", "x")
    link = r"  http://traces/[0-9a-f]{32}$"
    dev.line(r"✓  charge  ORDERS:1  attempt 1  .* ms" + link)
    dev.line(r"↻  charge  ORDERS:2  attempt 1  .* ms  again in 0 s: ValueError: unlucky" + link)
    dev.line(r"✗  charge  ORDERS:2  attempt 2  .* ms  exhausted: ValueError: unlucky" + link)
    dev.line(r"✗  charge  ORDERS:3  attempt 1  .* ms  rejected: Reject: no" + link)
    assert re.match(r"\d\d:\d\d:\d\d  ✓  charge", dev.line("ORDERS:1"))


def test_a_failure_is_told_once_and_with_its_place(shop: Project) -> None:
    dev = started(shop)
    shop.runner("publish", "orders.odd", "x")
    dev.line("✗  charge  ORDERS:1  attempt 2")
    dev.interrupt()
    assert dev.wait() == 0
    lines = [*dev.stdout, *dev.stderr]
    assert sum("unlucky" in line for line in lines) == 2  # one an attempt
    assert [line.strip() for line in dev.stdout if " at " in line] == [
        "at functions/shop.py:10 in charge"
    ] * 2
    assert dev.stderr[-1].startswith("dev ended")


def test_without_a_collector_there_are_no_links_one_line_tells_it_and_the_end_is_quick(shop: Project) -> None:
    traced = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    took: list[float] = []
    while (
        len(took) < 5 and min(took, default=QUICK) >= QUICK
    ):  # a busy machine may stand still in one of them
        dev = started(shop, **traced, JETRUNNER_TRACE_URL="http://traces/{trace_id}")
        version = len(took) + 1
        edit(shop, f"version={version}", f"version={version + 1}")
        said(dev, "dev ready in", 2)
        shop.runner("publish", "orders.ok", "x")
        assert re.search(r" ms  runner trace [0-9a-f]{32}$", dev.line("✓  charge  ORDERS:"))
        began = time.monotonic()
        dev.interrupt()
        assert dev.wait() == 0
        took.append(time.monotonic() - began)
        assert sum("collector" in line or "traces" in line for line in dev.stderr) == 1
    assert min(took) < QUICK, took


def test_as_json_every_attempt_is_a_document(shop: Project) -> None:
    dev = started(shop, "--output", "json")
    shop.runner("publish", "orders.bad", "x")
    document = json.loads(dev.line("^{"))
    assert {**document, "ms": 0, "time": ""} == {
        "time": "", "where": "", "function": "charge", "message_id": "ORDERS:1", "settlement": "dead", "reason": "rejected: Reject: no",
        "attempt": 1, "ms": 0, "trace_id": "", "trace_url": "",
    }  # fmt: skip


def test_a_change_runs_within_a_second_or_so(shop: Project) -> None:
    dev = started(shop)
    assert version(shop) == 1
    for at in range(2, 5):  # edits of the same size within the same second, too
        began = edit(shop, f"version={at - 1}", f"version={at}")
        said(dev, "dev ready in", at)
        assert time.monotonic() - began < 15  # a second where nothing else runs
        assert version(shop) == at


def test_a_hook_that_is_added_runs_around_the_next_message(shop: Project) -> None:
    dev = started(shop)
    for at, words in enumerate(["by the hook", "by the new hook"], 1):
        shop.function("hooks", HOOK.replace("by the hook", words))
        said(dev, "dev ready in", at + 1)
        shop.runner("publish", "orders.ok", "x")
        dev.line(rf"✗  charge  ORDERS:{at}  attempt 1  .* rejected: Reject: {words}")


def test_a_syntax_error_is_shown_and_the_last_good_version_goes_on(shop: Project) -> None:
    dev = started(shop)
    edit(shop, "async def", "async dfe")
    dev.line(r"error: functions/shop.py:6: SyntaxError")
    dev.line("the last good version goes on")
    assert version(shop) == 1
    edit(shop, "async dfe", "async def")
    said(dev, "dev ready in", 2)
    edit(shop, "version=1", "version=2")
    said(dev, "dev ready in", 3)
    assert version(shop) == 2


def test_a_project_that_begins_with_a_mistake_waits_until_it_is_mended(shop: Project) -> None:
    edit(shop, "async def", "async dfe")
    dev = shop.start("dev")
    dev.line("SyntaxError")
    dev.line("waiting for a change")
    edit(shop, "async dfe", "async def")
    dev.line("dev ready in")
    assert version(shop) == 1


def test_a_stream_file_is_applied_when_it_changes(shop: Project) -> None:
    dev = started(shop)
    shop.stream("more", 'name = "MORE"\nsubjects = more\n')
    dev.line("error: streams/more.toml")
    assert version(shop) == 1
    shop.stream("more", 'name = "MORE"\nsubjects = ["more.*"]\n')
    dev.line("dev stream MORE: created")
    assert shop.runner("publish", "more.x", "1").stdout == "MORE:1\n"


def test_a_function_without_a_stream_waits_for_the_stream(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"shop": SHOP})
    (project.root / "streams").rmdir()
    dev = project.start("dev")
    dev.line("error: .*charge: no stream captures")
    dev.line("waiting for a change")
    (project.root / "streams").mkdir()
    project.stream("orders", ORDERS)
    dev.line("dev ready in")


def test_a_function_that_has_no_stream_leaves_the_last_good_version_at_work(shop: Project) -> None:
    dev = started(shop)
    edit(shop, '@consume("orders.{kind}"', '@consume("refunds.{kind}"')
    dev.line("error: .*charge: no stream captures refunds")
    dev.line("dev the last good version goes on")
    assert version(shop) == 1
    edit(shop, '@consume("refunds.{kind}"', '@consume("orders.{kind}"')
    said(dev, "dev ready in", 2)


def test_a_wrong_stream_file_leaves_the_last_good_version_at_work(shop: Project) -> None:
    dev = started(shop)
    shop.stream("more", "name = \n")
    dev.line("error: streams/more.toml")
    dev.line("dev the last good version goes on")
    assert version(shop) == 1


def test_another_number_of_shards_is_told_and_stops_nothing(make_project: Callable[..., Project]) -> None:
    ordered = SHOP.replace('"orders.{kind}",', '"orders.{kind}", ordered_by="kind",')
    sharded = ORDERS + '\n[shards]\ncount = 2\nby = ["customer"]\n'
    project = make_project(functions={"shop": ordered})
    project.stream("orders", sharded.replace("orders.*", "orders.{customer}"))
    dev = started(project)
    assert version(project) == 1
    file = project.root / "streams" / "orders.toml"
    write(file, file.read_text().replace("count = 2", "count = 4"))
    dev.line(
        r"error: stream ORDERS stays as it is \(streams/orders.toml\): shards: .*`runner shard resize ORDERS 4`"
    )
    said(dev, "dev ready in", 2)
    assert version(project) == 1
    project.stream("more", 'name = "MORE"\nsubjects = ["more.*"]\n')
    dev.line("dev stream MORE: created")
    said(dev, "dev ready in", 3)
    edit(project, "version=1", "version=2")
    said(dev, "dev ready in", 4)
    assert version(project) == 2
    assert sum("stays as it is" in line for line in dev.stderr) == 1
    done = project.runner("shard", "resize", "ORDERS", "4")
    assert (done.code, "generation 2" in done.stderr) == (0, True), done.stderr
    assert version(project) == 2
    dev.interrupt()
    assert dev.wait() == 0
    again = started(project)
    assert not [line for line in again.stderr if "stays as it is" in line]


def test_a_worker_that_dies_is_started_again(shop: Project) -> None:
    dev = started(shop)
    (worker,) = (pid for pid in dev.children() if "--parent" in arguments(pid))
    os.kill(worker, 9)
    dev.line(rf"pid {worker}\) ended: SIGKILL")
    said(dev, "dev ready in", 2)
    assert version(shop) == 1


def test_temporary_files_of_editors_are_no_change(shop: Project) -> None:
    dev = started(shop)
    functions = shop.root / "functions"
    for name in (
        "4913",
        ".shop.py.swp",
        "#shop.py#",
        "shop.py~",
        "sedAb12Cd",
        "shop.py.tmp.42",
        "shop.py___jb_tmp___",
    ):
        (functions / name).write_text("x")
    edit(shop, "version=1", "version=2")
    said(dev, "dev ready in", 2)
    assert [line for line in dev.stderr if "changed" in line] == ["dev functions/shop.py changed"]


def test_attempts_of_an_ordered_function_are_told_and_traced_by_their_own_number_and_time(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(functions={"ledger": LEDGER}, streams={"orders": ORDERS})
    with Receiver() as receiver:
        traced = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        dev = started(project, "--output", "json", **traced)
        project.runner("publish", "orders.anna", "x")
        dev.line('"settlement": "dead"')
        documents = [json.loads(line) for line in dev.stdout if line.startswith("{")]
        assert [(each["settlement"], each["attempt"]) for each in documents] == [
            ("retry", 1), ("retry", 2), ("dead", 3),
        ]  # fmt: skip
        assert min(each["ms"] for each in documents) > 40  # the loop's clock ticks in milliseconds
        until(lambda: len(attempts(receiver)) == 3)
        assert attempts(receiver) == [(1, 2), (2, 3), (3, None)]


def attempts(receiver: Receiver) -> list[tuple[object, object]]:
    """The traced attempts, and which one each announced to be next."""
    spans = sorted(receiver.spans(), key=lambda span: span.start_ns)
    return [
        (span.attributes["jetrunner.attempt"], span.events[-1].attributes.get("next_attempt"))
        for span in spans
        if "jetrunner.attempt" in span.attributes
    ]
