"""The `runner` command in many processes at once, whose output goes into files: each costs little."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.process import begun
from tests.support.warm import Warm


class Command:
    """One of them, running or ended."""

    def __init__(self, process: subprocess.Popen[bytes] | Warm, said: Path) -> None:
        self._process = process
        self._said = said

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self._said.read_text(errors="replace")

    @property
    def data(self) -> str:
        """What it wrote to standard output."""
        return self._said.with_suffix(".out").read_text()

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs, and of one that was killed."""
        code = self._process.poll()
        return code if code is not None and code >= 0 else None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, unless it has ended."""
        self._process.send_signal(number)

    def wait(self) -> None:
        """Return once it has ended."""
        self._process.wait(20)


class Forks:
    """Where they come from; all of them are killed with its block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._begun: list[Command] = []
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for command in self._begun:
            command.kill()
        for command in self._begun:
            command.wait()

    def start(self, folder: Path, environment: dict[str, str], *arguments: str) -> Command:
        """Start `runner <arguments>` there."""
        said = self._directory / f"{len(self._begun) + 1}.txt"
        with said.open("wb") as errors, said.with_suffix(".out").open("wb") as data:
            command = Command(begun(arguments, folder, environment, data.fileno(), errors.fileno()), said)
        self._begun.append(command)
        return command
