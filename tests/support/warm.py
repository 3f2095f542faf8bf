"""The `runner` command in processes of their own that begin with everything imported: a start costs a tenth of the CPU.

One process of Python for each process of tests has imported the command and waits; for each start it forks. What comes of that is as
`python -m runner` has it: its own session, environment, folder, standard files and signals, and an ordinary end. Its process
id is its own: it is killed and frozen as any other.

Rule 1: the waiting process has one thread and no event loop, opens nothing, and imports none of a project's code.
Rule 2: what decides before anything is imported (PYTHON… variables) needs a process that starts from nothing: `fits` tells.
        PYTHONFAULTHANDLER can be followed later, too.
Rule 3: how a process ended is told by its parent, the waiting process, to the tests.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
JOB_BYTES = 1 << 18
COMMANDS = (
    "apply", "check", "deadletter.drop", "deadletter.group", "deadletter.list", "deadletter.redrive", "deadletter.show",
    "doctor", "explain", "function.forget", "function.group", "function.invoke", "function.list", "gateway", "message.find",
    "message.group", "message.show", "parked.group", "parked.list", "parked.retry", "parked.skip", "permissions", "plan",
    "publish", "request", "run", "schedule.fire", "schedule.group", "schedule.list", "schema.group", "shard.group",
    "shard.list", "shard.resize", "status", "stopsignals",
)  # fmt: skip
LATER = (
    "anyio._backends._asyncio", "anyio._core._sockets", "anyio.streams.memory", "anyio.streams.stapled",
    "anyio.streams.tls", "runner.discovery", "runner.gateway.edge", "runner.process.app", "runner.process.codefiles", "uvloop",
)  # fmt: skip
"""What a command imports once it runs."""


def fits(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a process that was forked would be as one that starts from nothing."""
    python = {name: value for name, value in environment.items() if name.startswith(("PYTHON", "COVERAGE"))}
    python.pop("PYTHONFAULTHANDLER", None)
    return (
        sys.platform == "linux"
        and python == {"PYTHONUNBUFFERED": "1"}
        and not {"dev", "new"}.intersection(arguments)
    )


class Warm:
    """One started command; the calls of `subprocess.Popen` that tests use."""

    def __init__(
        self, arguments: Sequence[str], directory: Path, environment: Mapping[str, str], files: Sequence[int]
    ) -> None:
        """`files` are the descriptors of its standard input, output and error."""
        self._source = Source.of_this_process()
        job = {"arguments": list(arguments), "folder": str(directory), "environment": dict(environment)}
        self._number, self.pid = self._source.start(job, files)

    def poll(self) -> int | None:
        """Its exit code, None while it runs; minus the signal's number when a signal ended it."""
        return self._source.ended.get(self._number)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code once it has ended. Raises `subprocess.TimeoutExpired`."""
        with self._source.told:
            if not self._source.told.wait_for(lambda: self.poll() is not None, timeout):
                raise subprocess.TimeoutExpired("runner", timeout or 0.0)
        return self._source.ended[self._number]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:  # it has ended, and is told of in a moment
                return

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Source:
    """The process that waits, as the tests have it."""

    _this: Source | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        asks, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        hears, tells = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.owner = os.getpid()
        self.ended: dict[int, int] = {}
        """Exit codes, by the numbers of starts."""
        self.told = threading.Condition()
        self._asks = asks
        self._count = 0
        self._starting = threading.Lock()
        with asked, tells:
            descriptors = asked.fileno(), tells.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm", *map(str, descriptors)],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                start_new_session=True,
            )
        threading.Thread(target=self._hear, args=(hears,), daemon=True).start()

    @classmethod
    def of_this_process(cls) -> Source:
        """The one of this process of tests."""
        with cls._lock:
            if cls._this is None or cls._this.owner != os.getpid():
                cls._this = cls()
            return cls._this

    def start(self, job: Mapping[str, Any], files: Sequence[int]) -> tuple[int, int]:
        """Start one; the number of the start, and the process id."""
        with self._starting:
            self._count += 1
            text = json.dumps({**job, "number": self._count}).encode()
            assert len(text) <= JOB_BYTES, "arguments and environment are too long"
            socket.send_fds(self._asks, [text], files)
            return self._count, int(self._asks.recv(64))

    def _hear(self, hears: socket.socket) -> None:
        while found := hears.recv(64):
            number, code = map(int, found.split())
            with self.told:
                self.ended[number] = code
                self.told.notify_all()


# -- the process that waits -------------------------------------------------------------------------------


def _wait_for_jobs(asked: socket.socket, tells: socket.socket) -> dict[str, Any] | None:
    """Fork for each job until the tests have ended; in a fork, its job."""
    running: dict[int, int] = {}
    wakes, woken = os.pipe()
    for end in (wakes, woken):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select((asked.fileno(), wakes), (), ())
        if wakes in ready:
            os.read(wakes, 4096)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    tells.send(b"%d %d" % (running.pop(pid), os.waitstatus_to_exitcode(status)))
        if asked.fileno() in ready:
            text, files, _, _ = socket.recv_fds(asked, JOB_BYTES, 3)
            if not text:
                return None
            job: dict[str, Any] = json.loads(text)
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (wakes, woken):
                    os.close(end)
                return job | {"files": files}
            running[pid] = job["number"]
            for file in files:
                os.close(file)
            asked.send(b"%d" % pid)


def _become(job: Mapping[str, Any]) -> None:
    """This process is the command from here on."""
    from runner.cli import main

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what started the tests may ignore it
    for number, descriptor in enumerate(job["files"]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.path[0] = job["folder"]
    sys.argv[1:] = job["arguments"]
    if os.environ.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    try:
        main(job["arguments"])
    finally:
        _end(sys.exception())


def _end(raised: BaseException | None) -> None:
    """End as Python does, but for freeing each object: that would copy every page that is shared with the waiting process."""
    if not isinstance(raised, SystemExit) or not isinstance(raised.code, int | None):
        return
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        with suppress(OSError):
            file.flush()
    os._exit(raised.code or 0)


def _run(asked: int, tells: int) -> None:
    import gc
    from importlib import import_module

    for command in COMMANDS:
        import_module(f"runner.cli.{command}")
    for module in LATER:
        import_module(module)
    gc.freeze()
    with socket.socket(fileno=asked) as jobs, socket.socket(fileno=tells) as ends:
        job = _wait_for_jobs(jobs, ends)
    if job is not None:
        _become(job)


if __name__ == "__main__":
    _run(*map(int, sys.argv[1:]))
