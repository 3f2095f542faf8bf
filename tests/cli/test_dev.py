"""`runner dev`: a server of its own, reload within a second, and mistakes that stop nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.engine import embedded
from runner.errors import UsageError
from tests.support.eventually import until
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server

SHOP = """
    from journal import note
    from runner import Reject, RetryPolicy, consume

    @consume("orders.{kind}", retry=RetryPolicy(attempts=2, delay=0))
    async def charge(body: bytes, kind: str) -> None:
        if kind == "bad":
            raise Reject("no")
        if kind == "odd":
            raise ValueError("unlucky")
        note("charge", version=1)
"""
ORDERS = 'name = "ORDERS"\nsubjects = ["orders.*"]\n'


@pytest.fixture
def shop(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"shop": SHOP}, streams={"orders": ORDERS})


def started(project: Project, *arguments: str, **environment: str) -> RunnerProcess:
    dev = project.start("dev", *arguments, **environment)
    dev.line("dev ready in")
    return dev


def said(dev: RunnerProcess, pattern: str, count: int) -> None:
    until(
        lambda: sum(bool(re.search(pattern, line)) for line in [*dev.stdout, *dev.stderr]) >= count, within=20
    )


def version(project: Project) -> int:
    """Publish, and tell which version of the code took it."""
    before = len(project.journal("charge"))
    assert project.runner("publish", "orders.ok", "x").code == 0
    until(lambda: len(project.journal("charge")) > before)
    return int(project.journal("charge")[-1]["version"])


def edit(project: Project, old: str, new: str) -> float:
    """Change the function's file; when."""
    file = project.root / "functions" / "shop.py"
    file.write_text(file.read_text().replace(old, new))
    return time.monotonic()


def test_it_runs_on_a_server_of_its_own_and_says_where(shop: Project) -> None:
    dev = started(shop)
    url = dev.stderr[0].split()[-1]
    assert re.fullmatch(r"dev NATS at nats://127\.0\.0\.1:\d+", dev.stderr[0])
    assert dev.stderr[1] == "dev publish: runner publish SUBJECT BODY"
    assert (shop.root / ".jetrunner" / "nats-url").read_text().strip() == url
    done = shop.runner("publish", "orders.ok", "x", "--nats-url", url)
    assert (done.code, done.stdout) == (0, "ORDERS:1\n")
    dev.line(r"✓  charge  ORDERS:1  attempt 1  \d+\.\d ms")
    dev.interrupt()
    assert dev.wait() == 0
    assert not (shop.root / ".jetrunner" / "nats-url").exists()


def test_what_was_stored_is_there_the_next_time(shop: Project) -> None:
    dev = started(shop)
    assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:1\n"
    dev.terminate()
    assert dev.wait() == 0
    started(shop)
    assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:2\n"


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


def test_without_a_collector_there_are_no_links_one_warning_and_a_quick_end(shop: Project) -> None:
    traced = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    dev = started(shop, **traced, JETRUNNER_TRACE_URL="http://traces/{trace_id}")
    edit(shop, "version=1", "version=2")
    said(dev, "dev ready in", 2)
    shop.runner("publish", "orders.ok", "x")
    assert dev.line("✓  charge  ORDERS:1").endswith(" ms")
    began = time.monotonic()
    dev.interrupt()
    assert dev.wait() == 0
    assert time.monotonic() - began < 2.5  # about half a second where nothing else runs
    assert sum("collector" in line or "traces" in line for line in dev.stderr) == 1


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
        assert time.monotonic() - began < 3  # a second where nothing else runs
        assert version(shop) == at


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


def test_a_worker_that_dies_is_started_again(shop: Project) -> None:
    dev = started(shop)
    (worker,) = (pid for pid in dev.children() if "--parent" in arguments(pid))
    os.kill(worker, 9)
    dev.line(rf"pid {worker}\) ended: SIGKILL")
    said(dev, "dev ready in", 2)
    assert version(shop) == 1


def test_there_is_one_at_a_time(shop: Project) -> None:
    started(shop)
    done = shop.runner("dev")
    assert done.code == 2
    assert "error: `runner dev` runs in this project already" in done.stderr


def test_a_killed_one_leaves_no_server_behind(shop: Project) -> None:
    dev = started(shop)
    url = (shop.root / ".jetrunner" / "nats-url").read_text().strip()
    dev.kill()
    again = started(shop)
    assert again.stderr[0].split()[-1] != url
    assert shop.runner("status", "--nats-url", url).code == 3


def test_a_server_that_is_given_is_used(shop: Project, nats_server: NatsServer) -> None:
    dev = started(shop, "--nats-url", nats_server.url)
    assert dev.stderr[0] == f"dev NATS at {nats_server.url}"
    assert shop.runner("publish", "orders.ok", "x", "--nats-url", nats_server.url).stdout == "ORDERS:1\n"
    dev.line("✓  charge  ORDERS:1")
    assert not (shop.root / ".jetrunner").exists()


def test_without_a_nats_server_to_start_there_is_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no nats-server to start") as missing:
        embedded.binary()
    assert "extra `dev`" in missing.value.hint


def test_outside_of_a_project_nothing_is_started(tmp_path: Path) -> None:
    for command in ("dev", "run", "check", "plan", "apply"):
        done = subprocess.run(
            [sys.executable, "-m", "runner", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert f"error: there is no project in {tmp_path}: it has no pyproject.toml" in done.stderr
        assert "hint: go into its folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_dies_is_started_again_with_what_it_stored(shop: Project) -> None:
    dev = started(shop)
    url = dev.stderr[0].split()[-1]
    assert version(shop) == 1
    (server,) = (pid for pid in descendants(dev.pid) if "nats-server" in Path(arguments(pid)[0]).name)
    os.kill(server, 9)
    dev.line("dev nats-server ended; it starts again")
    dev.line(f"dev nats-server is back at {re.escape(url)}")
    assert version(shop) == 1
    assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:3\n"
    dev.interrupt()
    assert dev.wait() == 0


def test_while_the_server_is_down_commands_say_whose_it_is(shop: Project) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    (shop.root / ".jetrunner").mkdir()
    with embedded.announced(shop.root / ".jetrunner" / "nats-url", url):
        done = shop.runner("publish", "orders.ok", "x")
    assert done.code == 3
    assert (
        f"error: the nats-server of `runner dev` at {url} does not answer\nhint: dev starts it" in done.stderr
    )


def descendants(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    children = [int(child) for child in listing.read_text().split()]
    return children + [each for child in children for each in descendants(child)]


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
