"""A user's project in a temporary folder, and the `runner` command run in it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from textwrap import dedent
from typing import IO, Any

from tests.support import journal
from tests.support.process import Finished, RunnerProcess, begun
from tests.support.tail import Tail

ENVIRONMENT_KEPT = {
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
    "COVERAGE_PROCESS_START",
}

WAITING = re.compile(
    r"^waiting: (the cluster has no leader that answers|the connection is lost); at most .*\n", re.MULTILINE
)
"""What a command says when a busy server has not answered for a second; not what any test is about."""


class Project:
    """Functions and streams as source text, written to disk; `start` and `runner` run the real command there.

    The environment is bare: no setting of the developer's machine reaches the command. Spans go nowhere unless a test
    sets `OTEL_EXPORTER_OTLP_ENDPOINT` itself. `journal()` reads what handlers wrote with `from journal import note`.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str = "shop",
        functions: Mapping[str, str] | None = None,
        streams: Mapping[str, str] | None = None,
        settings: str = "",
        nats: str | None = None,
    ) -> None:
        self.root = root
        self.name = name
        self.environment: dict[str, str] = {k: v for k, v in os.environ.items() if k in ENVIRONMENT_KEPT}
        self.environment |= {"OTEL_TRACES_EXPORTER": "none", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        if nats is not None:
            self.environment["NATS_URL"] = nats
        self._started: list[RunnerProcess] = []
        self._notes: list[dict[str, Any]] = []
        self._journal = Tail(root / "journal.jsonl")
        (root / "functions").mkdir(parents=True, exist_ok=True)
        (root / "streams").mkdir(exist_ok=True)
        (root / "functions" / "__init__.py").touch()
        shutil.copyfile(journal.__file__, root / "journal.py")
        self.settings(settings)
        for module, source in (functions or {}).items():
            self.function(module, source)
        for stream, text in (streams or {}).items():
            self.stream(stream, text)

    def settings(self, text: str) -> None:
        """Write pyproject.toml; `text` stands under `[tool.jetrunner]`."""
        body = f'[project]\nname = "{self.name}"\nversion = "0"\n\n[tool.jetrunner]\n{dedent(text)}'
        (self.root / "pyproject.toml").write_text(body)

    def function(self, module: str, source: str) -> Path:
        """Write `functions/<module>.py`; the text may be indented as a whole.

        Python would take a text of the same length, written within the same second, for the one that it compiled before.
        """
        file = self.root / "functions" / f"{module}.py"
        write(file, dedent(source))
        for compiled in (file.parent / "__pycache__").glob(f"{module}.*.pyc"):
            compiled.unlink()
        return file

    def stream(self, file: str, text: str) -> Path:
        """Write `streams/<file>.toml`."""
        path = self.root / "streams" / f"{file}.toml"
        write(path, dedent(text))
        return path

    async def applied(self) -> None:
        """Run `runner apply`, and see that it succeeds."""
        done = await asyncio.to_thread(self.runner, "apply")
        assert done.code == 0, done.stderr

    def start(self, *arguments: str, **environment: str) -> RunnerProcess:
        """Start `runner <arguments>` in the background; it is destroyed at the end of the test, whatever happens."""
        process = RunnerProcess(arguments, self.root, self.environment | environment)
        self._started.append(process)
        return process

    def runner(
        self, *arguments: str, stdin: str | None = None, within: float = 60.0, **environment: str
    ) -> Finished:
        """Run `runner <arguments>` to its end."""
        with TemporaryFile("w+") as given, TemporaryFile("w+") as told, TemporaryFile("w+") as said:
            given.write(stdin or "")
            given.seek(0)
            process = begun(
                arguments,
                self.root,
                self.environment | environment,
                told.fileno(),
                said.fileno(),
                given.fileno(),
            )
            try:
                code = process.wait(within)
            except subprocess.TimeoutExpired:
                state = standing(process.pid)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                texts = "\n".join(map(text_of, (told, said)))
                raise AssertionError(
                    f"runner {' '.join(arguments)} runs for over {within:g} s ({state}):\n{texts}"
                ) from None
            return Finished(code, text_of(told), WAITING.sub("", text_of(said)))

    def json(self, *arguments: str, within: float = 60.0, code: int = 0, **environment: str) -> Any:
        """Run `runner <arguments> --output json`, expect this exit code, and return the document."""
        done = self.runner(*arguments, "--output", "json", within=within, **environment)
        assert done.code == code, f"exit {done.code}:\n{done.stderr}"
        return json.loads(done.stdout)

    def journal(self, what: str | None = None) -> list[dict[str, Any]]:
        """What handlers noted so far, oldest first; with `what`, those notes alone."""
        self._notes += map(json.loads, self._journal.lines())
        return [note for note in self._notes if what is None or note["what"] == what]

    def close(self) -> None:
        """Destroy whatever still runs."""
        for process in self._started:
            process.destroy()


def text_of(file: IO[str]) -> str:
    """All that was written to a file."""
    file.seek(0)
    return file.read()


def standing(pid: int) -> str:
    """What a process does, as the kernel says: its state, and where each thread waits."""
    try:
        state = re.findall(r"State:\s+(.*)", Path(f"/proc/{pid}/status").read_text())
        waits = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/wchan")]
    except OSError as error:
        return str(error)
    return f"state {', '.join(state)}, waits in {', '.join(waits)}"


def write(file: Path, text: str) -> None:
    """Write a file in one step, so that nobody who watches it sees half of it."""
    whole = file.with_suffix(".tmp")
    whole.write_text(text)
    whole.replace(file)
