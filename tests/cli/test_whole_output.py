"""What a command prints arrives whole, whatever happens to the process while its reader is slow."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable

import pytest

from tests.support.eventually import until
from tests.support.project import Project
from tests.support.server import freeze

FUNCTIONS = 400
MANY = "from runner import consume\n" + "\n".join(
    f'@consume("orders.{at}")\ndef charge{at}(order: bytes) -> None: ...' for at in range(FUNCTIONS)
)
PIPE_BYTES = 65_536


def waiting_bytes(pipe: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])


@pytest.mark.skipif(
    sys.platform != "linux", reason="the size of a pipe, and what SIGSTOP does to a write, are Linux's"
)
# Where a pipe that does not block is full, Python's own buffered streams raise: the command says so and ends with 1.
@pytest.mark.parametrize(
    ("unbuffered", "blocking"),
    [("1", True), ("1", False), ("", True)],
    ids=["unbuffered", "unbuffered and non-blocking", "buffered"],
)
def test_a_command_that_stood_still_while_it_wrote_leaves_nothing_out(
    make_project: Callable[..., Project], unbuffered: str, blocking: bool
) -> None:
    project = make_project(functions={"shop": MANY})
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    command = [sys.executable, "-m", "runner", "function", "list", "--output", "json"]
    environment = project.environment | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, cwd=project.root, env=environment, stdout=writer) as process:
        os.close(writer)
        until(lambda: waiting_bytes(reader) == PIPE_BYTES)
        freeze(process.pid)
        process.send_signal(signal.SIGCONT)
        with os.fdopen(reader, "rb") as file:
            text = file.read()
        assert process.wait(60) == 0
    assert len(json.loads(text)) == FUNCTIONS
