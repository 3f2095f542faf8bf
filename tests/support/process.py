"""The `runner` command as a real process: its lines as they come, its signals, its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from tests.support.eventually import eventually, until
from tests.support.server import freeze
from tests.support.warm import Warm, fits


class Finished(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def begun(
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    stdout: int,
    stderr: int,
    stdin: int | None = None,
) -> subprocess.Popen[bytes] | Warm:
    """Start the command in a session of its own, so that all that it starts can be reached too."""
    with Path(os.devnull).open("rb") as nothing:
        given = nothing.fileno() if stdin is None else stdin
        if fits(arguments, environment):
            return Warm(arguments, directory, environment, (given, stdout, stderr))
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *arguments],
            cwd=directory,
            env=dict(environment),
            stdin=given,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


class RunnerProcess:
    """The command in the background; lines of both outputs are kept as they arrive."""

    def __init__(self, arguments: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self.arguments = tuple(arguments)
        said, outputs = zip(*(os.pipe() for _ in range(2)), strict=True)
        self._process = begun(arguments, directory, environment, *outputs)
        for output in outputs:
            os.close(output)
        self._streams = [os.fdopen(each, errors="replace") for each in said]
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in zip(self._streams, (self.stdout, self.stderr), strict=True)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs; minus the signal's number when a signal ended it."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """Everything it has said so far, standard output first."""
        return "\n".join([*self.stdout, *self.stderr])

    def line(self, pattern: str, *, within: float = 60.0) -> str:
        """Block until a line of either output matches the regular expression, and return that line.

        AssertionError with everything said when it ends before, or after `within` seconds.
        """
        until(lambda: self._look(pattern) or not self.running, within=within)
        return self._look(pattern) or self._explain(pattern)

    async def seen(self, pattern: str, *, within: float = 60.0) -> str:
        """`line` for async tests: the loop goes on while it waits."""
        await eventually(lambda: self._look(pattern) or not self.running, within=within)
        return self._look(pattern) or self._explain(pattern)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        self.signal(signal.SIGINT)

    def signal(self, number: int) -> None:
        """Send any signal to the process itself, not to its children."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the process itself and wait for its end."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP the process."""
        freeze(self.pid)

    def thaw(self) -> None:
        """SIGCONT the process."""
        self.signal(signal.SIGCONT)

    def wait(self, *, within: float = 60.0) -> int:
        """Its exit code once it has ended by itself; AssertionError when it has not within the time."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within:g} s:\n{self.output}") from None
        for reader in self._readers:
            reader.join(5)
        return code

    async def ended(self, *, within: float = 60.0) -> int:
        """`wait` for async tests."""
        await eventually(lambda: not self.running, within=within)
        return self.wait()

    def destroy(self) -> None:
        """End it and every process it started that is still in its session; nothing may be left behind."""
        for number in (signal.SIGCONT, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):
                break
        self._process.wait()
        for reader in self._readers:
            reader.join(5)
        for stream in self._streams:
            stream.close()

    def children(self) -> list[int]:
        """Process ids of its living children."""
        listing = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(child) for child in listing.read_text().split()] if listing.exists() else []

    def _look(self, pattern: str) -> str | None:
        if not self.running:
            for reader in self._readers:
                reader.join(5)
        return next((line for line in (*self.stdout, *self.stderr) if re.search(pattern, line)), None)

    def _explain(self, pattern: str) -> str:
        raise AssertionError(f"ended with {self.code} before a line matched {pattern!r}:\n{self.output}")

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401 - one by one: a test reads them as they come
