"""`runner deadletter drop`: by number, by filter after a question; what a parked key waits behind stays."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Self

import pytest

from runner.core import park
from runner.core.origin import Origin
from runner.core.park import Letter
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


class Stacks:
    """Dead letters of two functions, stored as a runner stores them."""

    def __init__(self, project: Project, js: RawJetStream) -> None:
        self.project = project
        self.js = js

    async def store(self, function: str, reason: str, project: str = "shop") -> None:
        headers = {
            "Jetrunner-Dead-Reason": reason,
            "Jetrunner-Dead-Function": function,
            "Jetrunner-Dead-Project": project,
            "Jetrunner-Dead-Stream": "ORDERS",
            "Jetrunner-Dead-Sequence": "1",
        }
        await self.js.publish(f"deadletters.{project}.{function}", {}, headers)

    async def left(self) -> list[int]:
        return [message.sequence for message in await self.js.messages("DEADLETTERS")]


class Asking:
    """`runner deadletter drop` at a terminal, where it asks."""

    def __init__(self, project: Project, *selection: str) -> None:
        self._master, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runner", "deadletter", "drop", *selection],
            stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=project.root, env=project.environment,
        )  # fmt: skip
        os.close(terminal)
        self._asked = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        os.close(self._master)

    def asks(self) -> None:
        """Returns when the question stands there."""
        assert self._process.stderr is not None
        while b"for good?" not in self._asked:
            read = os.read(self._process.stderr.fileno(), 4_096)
            assert read, f"it ended without a question: {self._asked.decode()}"
            self._asked += read

    def answer(self, answer: bytes) -> tuple[int, str, str]:
        """Exit code, and what it has said."""
        os.write(self._master, answer)
        out, err = self._process.communicate(timeout=60)
        return self._process.returncode, out.decode(), (self._asked + err).decode()


@pytest.fixture
async def stacks(make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream) -> Stacks:
    await js.create("DEADLETTERS", ["deadletters.>"], allow_direct=True)
    stacks = Stacks(make_project(nats=nats_server.url), js)
    for function, reason in (
        ("charge", "rejected"),
        ("charge", "exhausted"),
        ("audit", "rejected"),
        ("charge", "rejected"),
    ):
        await stacks.store(function, reason)
    await stacks.store("charge", "rejected", "other")
    return stacks


async def test_by_number(stacks: Stacks) -> None:
    done = stacks.project.runner("deadletter", "drop", "2", "4")
    assert (done.code, done.stdout) == (0, "2 dropped, 0 kept\n"), done.stderr
    assert await stacks.left() == [1, 3, 5]
    done = stacks.project.runner("deadletter", "drop", "1", "2", "5", "99")
    assert (done.code, done.stdout) == (1, "1 dropped, 1 kept, 2 not there\n")
    assert "error: there is no dead letter 2\n" in done.stderr
    assert "dead letter 5 is kept: it belongs to the project 'other'" in done.stderr
    assert await stacks.left() == [3, 5]


async def test_by_filter_it_asks_and_without_a_terminal_it_wants_a_yes(stacks: Stacks) -> None:
    for selection in (["--all"], ["--function", "charge"], ["--reason", "rejected"], ["--since", "1h"]):
        done = stacks.project.runner("deadletter", "drop", *selection)
        assert (done.code, "--yes" in done.stderr) == (2, True)
    assert "would be dropped" in stacks.project.runner("deadletter", "drop", "--all", "--dry-run").stdout
    assert await stacks.left() == [1, 2, 3, 4, 5]
    assert stacks.project.json("deadletter", "drop", "--function", "charge", "--reason", "rejected", "--yes") == {
        "dropped": 2, "kept": [], "missing": [],
    }  # fmt: skip
    assert await stacks.left() == [2, 3, 5]
    assert stacks.project.json("deadletter", "drop", "--function", "audit", "--yes")["dropped"] == 1
    assert stacks.project.json("deadletter", "drop", "--all", "-y")["dropped"] == 1
    assert await stacks.left() == [5]
    assert stacks.project.json("deadletter", "drop", "--all") == {"dropped": 0, "kept": [], "missing": []}


@pytest.mark.parametrize(
    ("answer", "left"), [(b"y\n", [5]), (b"n\n", [1, 2, 3, 4, 5]), (b"\n", [1, 2, 3, 4, 5])]
)
async def test_at_a_terminal_it_asks_and_no_is_the_default(
    stacks: Stacks, answer: bytes, left: list[int]
) -> None:
    with Asking(stacks.project, "--all") as asking:
        code, out, err = asking.answer(answer)
    assert "Drop 4 dead letters for good?" in err
    assert (code, out) == ((0, "4 dropped, 0 kept\n") if left == [5] else (130, ""))
    assert await stacks.left() == left


@pytest.mark.parametrize("selection", [["--all"], ["--function", "charge"], ["--reason", "rejected"]])
async def test_what_took_the_numbers_meanwhile_stays(stacks: Stacks, selection: list[str]) -> None:
    with Asking(stacks.project, *selection) as asking:
        asking.asks()
        await stacks.js.api("STREAM.DELETE.DEADLETTERS")
        await stacks.js.create("DEADLETTERS", ["deadletters.>"], allow_direct=True)
        for _ in range(6):
            await stacks.store("charge", "rejected")
        code, out, err = asking.answer(b"y\n")
    assert await stacks.left() == [1, 2, 3, 4, 5, 6]
    if selection[0] == "--reason":
        assert (code, out) == (0, "0 dropped, 0 kept\n")
    else:
        assert (code, out, "is not the one whose dead letters were counted" in err) == (1, "", True)


@pytest.mark.parametrize("selection", [["--all"], ["--function", "charge"], ["--reason", "exhausted"]])
async def test_what_a_key_has_come_to_need_meanwhile_stays(stacks: Stacks, selection: list[str]) -> None:
    with Asking(stacks.project, *selection) as asking:
        asking.asks()
        await stacks.js.create("KV_jetrunner", ["$KV.jetrunner.>"], allow_direct=True, max_msgs_per_subject=1)
        mark = park.parked(None, Origin("ORDERS", 1, 1, "orders.anna.paid"), (1,), time.time(), "anna")
        mark = mark.asked([Letter(2, 0, 1, 0)], time.time())
        await stacks.js.publish("$KV.jetrunner.parked.shop.charge.anna", park.encode(mark))
        code, out, err = asking.answer(b"y\n")
    assert (code, "dead letter 2 is kept: it is on its way back with key anna of charge" in err) == (1, True)
    assert out.endswith("dropped, 1 kept\n")
    assert 2 in await stacks.left()


async def test_nothing_or_both_is_wrong_usage(stacks: Stacks) -> None:
    for arguments in ([], ["1", "--all"], ["--yes"]):
        assert stacks.project.runner("deadletter", "drop", *arguments).code == 2
    done = stacks.project.runner("deadletter", "drop", "--function", "chrage", "--yes")
    assert (done.code, "there is no function 'chrage'" in done.stderr) == (2, True)
    assert await stacks.left() == [1, 2, 3, 4, 5]
