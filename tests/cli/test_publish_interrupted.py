"""Ctrl-C in `runner publish`: what is stored is counted, and told; nothing else is said."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

MANY = 200_000
TOLD = re.compile(
    r"^interrupted: ([\d,]+) stored(?: up to line ([\d,]+))?(?:, ([\d,]+) without an answer)?\n\Z",
    re.MULTILINE,
)


@pytest.fixture
async def proxy(nats_server: NatsServer, js: RawJetStream) -> AsyncIterator[Proxy]:
    await js.create("ORDERS", ["orders.>"])
    async with Proxy.to(nats_server.port) as proxy:
        yield proxy


@pytest.fixture
def project(make_project: Callable[..., Project], proxy: Proxy) -> Project:
    project = make_project(nats=proxy.url)
    (project.root / "many.jsonl").write_text('{"id": 1}\n' * MANY)
    return project


class Publishing:
    """`runner publish orders.x --lines`, its input held open."""

    def __init__(self, project: Project, *arguments: str, stdin: int = subprocess.DEVNULL) -> None:
        with (project.root / "out").open("wb") as out, (project.root / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runner", "publish", "orders.x", "--lines", *arguments],
                cwd=project.root, env=project.environment, stdin=stdin, stdout=out, stderr=err,
            )  # fmt: skip
        self._root = project.root

    def interrupt(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def has_taken_it(self) -> bool:
        """Whether no signal waits for the process any more."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return "\nShdPnd:\t0000000000000000\n" in status

    async def ended(self, *, within: float = 60.0) -> tuple[int, str, str]:
        """Exit code and both outputs."""
        try:
            await eventually(lambda: self.process.poll() is not None, within=within)
        finally:
            self.process.kill()
        return self.process.wait(), (self._root / "out").read_text(), (self._root / "err").read_text()


def told(said: str) -> tuple[int, int, int]:
    """Stored, up to which line, without an answer."""
    found = TOLD.search(said)
    assert found is not None, said
    stored, last, unanswered = (int((each or "0").replace(",", "")) for each in found.groups())
    return stored, last, unanswered


async def some(js: RawJetStream, before: int = 0) -> bool:
    return await js.count("ORDERS") > before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("output", ["text", "json"])
async def test_what_is_stored_is_counted_and_what_is_on_its_way_is_waited_for(
    project: Project, proxy: Proxy, js: RawJetStream, number: int, code: int, output: str
) -> None:
    proxy.delay(0.1, "down")
    publishing = Publishing(project, "--file", "many.jsonl", "--output", output)
    await eventually(lambda: some(js))
    interrupted = time.monotonic()
    publishing.interrupt(number)
    ended, out, err = await publishing.ended(within=60)
    took = time.monotonic() - interrupted
    stored, last, unanswered = told(err)
    assert (ended, last) == (code, stored)
    # An answer is given up after 5 s, and not before: a server may stand still for as long.
    assert unanswered == 0 or took > 4.5
    assert stored <= await js.count("ORDERS") <= stored + unanswered
    assert 0 < stored < MANY
    assert "error:" not in err
    assert len(json.loads(out) if output == "json" else out.splitlines()) == stored


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
async def test_it_ends_while_its_input_says_nothing(project: Project, js: RawJetStream, kind: str) -> None:
    write, read = pty.openpty() if kind == "terminal" else reversed(os.pipe())
    publishing = Publishing(project, "-", stdin=read)
    os.close(read)
    os.write(write, b"1\n\n3\n")

    async def stored() -> bool:
        return (project.root / "out").read_text().count("ORDERS:") == 2

    await eventually(stored)
    publishing.interrupt()
    code, _, err = await publishing.ended()
    os.close(write)
    assert (code, told(err)) == (130, (2, 3, 0))
    assert await js.count("ORDERS") == 2


async def test_what_got_no_answer_is_counted_and_not_told_one_by_one(
    project: Project, proxy: Proxy, js: RawJetStream
) -> None:
    publishing = Publishing(project, "--file", "many.jsonl")
    await eventually(lambda: some(js))
    proxy.freeze("down")
    await nothing_more(js)
    publishing.interrupt()
    code, out, err = await publishing.ended(within=60)
    stored, last, unanswered = told(err)
    assert (code, stored, last) == (130, len(out.splitlines()), stored)
    assert stored < await js.count("ORDERS") <= stored + unanswered
    assert "error:" not in err


async def test_a_second_one_does_not_wait_and_counts_all_the_same(
    project: Project, proxy: Proxy, js: RawJetStream
) -> None:
    took: list[float] = []
    while not took or (took[-1] >= 4 and len(took) < 3):  # the first one alone waits 5 s each time
        before = await js.count("ORDERS")
        publishing = Publishing(project, "--file", "many.jsonl")
        await eventually(lambda before=before: some(js, before))  # type: ignore[misc]
        proxy.freeze("down")
        await nothing_more(js)
        publishing.interrupt()
        await eventually(publishing.has_taken_it)  # two that are pending at once are one
        await anyio.sleep(0.1)
        again = time.monotonic()
        publishing.interrupt()
        code, out, err = await publishing.ended(within=60)
        took.append(time.monotonic() - again)
        proxy.thaw()
        stored, _, unanswered = told(err)
        assert (code, stored, unanswered > 0) == (130, len(out.splitlines()), True)
        assert "error:" not in err
    assert took[-1] < 4, took


async def nothing_more(js: RawJetStream) -> None:
    """Returns when the server has stored all that was sent: it sends no more without answers."""
    looks = [-1]

    async def still() -> bool:
        looks.append(await js.count("ORDERS"))
        await anyio.sleep(0.1)
        return len({*looks[-5:]}) == 1  # whoever publishes may stand still for a moment

    await eventually(still)
