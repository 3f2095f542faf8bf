"""What other processes append to a file: its whole lines, each once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


class Tail:
    """A file that grows; tests look often, and some handlers write thousands of lines."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0

    def lines(self) -> list[bytes]:
        """The lines since the last call; none where the file is not there yet."""
        with suppress(FileNotFoundError), self._file.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            return whole.splitlines()
        return []
