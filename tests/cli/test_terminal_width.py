"""Tables on a terminal of 80 columns, and in a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WORDS = "no bank answers " * 30


def on_terminal(project: Project, *arguments: str, columns: int = 80) -> list[str]:
    """The lines that a command prints to a terminal so wide."""
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", *arguments],
        cwd=project.root, env=project.environment,
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(terminal)
    said = b""
    try:
        while chunk := os.read(master, 4_096):
            said += chunk
    except OSError:  # the other end is closed
        pass
    os.close(master)
    assert process.wait(60) == 0
    return said.decode().replace("\r\n", "\n").splitlines()


async def test_tables_fit_a_terminal_and_a_pipe_gets_all(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(nats=nats_server.url)
    await js.create("DEADLETTERS", ["deadletters.>"], allow_direct=True)
    for function in ("charge", "send_confirmation_mail"):
        headers = {
            "Jetrunner-Dead-Reason": "undecodable",
            "Jetrunner-Dead-Function": function,
            "Jetrunner-Dead-Project": "shop",
            "Jetrunner-Dead-Stream": "ORDERS",
            "Jetrunner-Dead-Sequence": "123456789",
            "Jetrunner-Dead-Error": "ValueError",
            "Jetrunner-Dead-Message": WORDS,
            "Jetrunner-Dead-Time": "2031-05-04T12:00:00.250Z",
        }
        await js.publish(f"deadletters.shop.{function}", {}, headers)
    lines = on_terminal(project, "deadletter", "list")
    assert max(map(len, lines)) == 80
    heads = [name for line in lines for name in line.split() if name.isupper()]
    assert {"SEQUENCE", "TIME", "FUNCTION", "REASON", "ATTEMPTS", "MESSAGE", "ERROR"} <= set(heads)
    assert sum("ValueError: no bank answers" in line for line in lines) == 2
    piped = project.runner("deadletter", "list").stdout.splitlines()
    assert len(piped) == 3
    assert all(line.endswith(f"ValueError: {WORDS}".strip()) for line in piped[1:])
    status = on_terminal(project, "status")
    assert max(map(len, status)) <= 80
    assert "send_confirmation_mail" in status[2]
    wide = on_terminal(project, "status", columns=200)
    assert (len(wide), wide[0].split()[0]) == (3, "FUNCTION")


async def test_a_time_is_told_in_one_form(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(nats=nats_server.url)
    project.environment["TZ"] = "Asia/Tokyo"
    await js.create("DEADLETTERS", ["deadletters.>"], allow_direct=True)
    headers = {
        "Jetrunner-Dead-Function": "charge",
        "Jetrunner-Dead-Project": "shop",
        "Jetrunner-Dead-Time": "2031-05-04T12:00:00.250Z",
    }
    await js.publish("deadletters.shop.charge", {}, headers)
    for command in (("list",), ("show", "1")):
        assert "2031-05-04T12:00:00Z" in project.runner("deadletter", *command).stdout
        assert "2031-05-04T12:00:00.250Z" in project.runner("deadletter", *command, "--output", "json").stdout
    said = project.start("run", "--nats-url", "nats://user:secret@127.0.0.1:1")
    record = said.line("can be read by every user")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", record)
