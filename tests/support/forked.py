"""The `runner` command in processes that are forked from one that has imported everything: many of them cost little.

`python -m tests.support.forked` reads a JSON document a line (arguments, folder, environment, file for what is said) and
answers with the process id; the exit code is written beside that file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx  # noqa: F401 - what the example's functions import

ROOT = Path(__file__).parents[2]


class Command:
    """One of them, running or ended."""

    def __init__(self, pid: int, said: Path) -> None:
        self.pid = pid
        self._said = said

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self._said.read_text(errors="replace") if self._said.exists() else ""

    @property
    def data(self) -> str:
        """What it wrote to standard output."""
        return self._said.with_suffix(".out").read_text()

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs, and of one that was killed."""
        file = self._said.with_suffix(".code")
        text = file.read_text() if file.exists() else ""
        return int(text) if text.endswith("\n") else None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, unless it has ended."""
        if self.code is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


class Forks:
    """Where they come from; all of them are killed with its block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self._begun: list[Command] = []
        directory.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for command in self._begun:
            command.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def start(self, folder: Path, environment: dict[str, str], *arguments: str) -> Command:
        """Start `runner <arguments>` there."""
        self._count += 1
        said = self._directory / f"{self._count}.txt"
        job = {"arguments": arguments, "folder": str(folder), "environment": environment, "said": str(said)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        command = Command(int(self._process.stdout.readline()), said)
        self._begun.append(command)
        return command


def _become(job: dict[str, Any]) -> None:
    """This process is the command from here on."""
    from runner.cli import main

    said, writing = Path(job["said"]), os.O_CREAT | os.O_WRONLY | os.O_APPEND
    files = (
        os.open(os.devnull, os.O_RDONLY),
        *(os.open(each, writing) for each in (said.with_suffix(".out"), said)),
    )
    for number, descriptor in enumerate(files):
        os.dup2(descriptor, number)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    code = 70
    try:
        main(job["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        said.with_suffix(".code").write_text(f"{code}\n")
        os._exit(code)


def _serve() -> None:
    from importlib import import_module

    for module in (
        "apply", "deadletter.drop", "deadletter.list", "deadletter.redrive", "deadletter.show", "parked.list",
        "parked.retry", "parked.skip", "publish", "run", "shard.list", "shard.resize", "status",
    ):  # fmt: skip
        import_module(f"runner.cli.{module}")
    import_module("uvloop")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(job)
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()
