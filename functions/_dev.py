"""`runner dev` as the demo sees it: started, read line by line, and stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self


class Tally(NamedTuple):
    """What `runner dev` has told so far; `first` and `last` are readings of the monotonic clock."""

    acknowledged: int
    retried: int
    dead: int
    by_function: dict[str, Counter[str]]
    first: float
    last: float

    @property
    def handled(self) -> int:
        """Messages that ended."""
        return self.acknowledged + self.dead


class Dev:
    """A `runner dev` that runs while its `with` block does, and is asked to drain at the end."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        words = [sys.executable, "-m", "runner", "dev", "--project", str(root), "--output", "json"]
        self._process = subprocess.Popen(
            words, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._ready = threading.Event()
        self._counts: dict[str, Counter[str]] = {}
        self._first = self._last = 0.0
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._count, self._listen)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.poll()

    @property
    def said(self) -> str:
        """The end of what it said on standard error."""
        return "\n".join(self._lines[-20:])

    def ready(self, *, within: float) -> None:
        """Wait until its functions run; SystemExit with what it said when they do not."""
        deadline = time.monotonic() + within
        while not self._ready.wait(0.05):
            if not self.running or time.monotonic() > deadline:
                sys.exit(f"runner dev did not start:\n{self.said}")

    def tally(self) -> Tally:
        """What has ended so far."""
        with self._lock:
            by_function = {name: Counter(counts) for name, counts in self._counts.items()}
        total = sum(by_function.values(), Counter[str]())
        return Tally(total["ack"], total["retry"], total["dead"], by_function, self._first, self._last)

    def _count(self) -> None:
        for line in self._process.stdout or ():
            attempt = json.loads(line)
            with self._lock:
                self._last = time.monotonic()
                self._first = self._first or self._last
                self._counts.setdefault(attempt["function"], Counter())[attempt["settlement"]] += 1

    def _listen(self) -> None:
        for line in self._process.stderr or ():
            self._lines.append(line.rstrip("\n"))
            if "ready in" in line:
                self._ready.set()
