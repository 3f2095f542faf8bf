"""Files that are read again when they change.

They are checked each second, since not every system reports changes of a mounted ConfigMap or Secret.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TypeAlias

Seen: TypeAlias = dict[Path, tuple[int, int, int] | None]

EVERY_SECONDS = 1.0


class Watched:
    """Watched files and folders; a folder has changed when a file in it has."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        self._paths = paths
        self._known = self._look()
        self._last = self._known

    def changed(self) -> bool:
        """Whether the files have changed, and were the same at the last two checks, so that nobody is still writing them."""
        now = self._look()
        settled = now == self._last
        self._last = now
        if not settled or now == self._known:
            return False
        self._known = now
        return True

    async def changes(self, every: float = EVERY_SECONDS) -> AsyncIterator[None]:
        """Yield each time the files have changed."""
        while True:
            await asyncio.sleep(every)
            if self.changed():
                yield

    def _look(self) -> Seen:
        found: Seen = {}
        for path in self._paths():
            for each in (path, *_inside(path)):
                found[each] = _state(each)
        return found


def _inside(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir()) if path.is_dir() else []
    except OSError:
        return []


def _state(path: Path) -> tuple[int, int, int] | None:
    """Values that change when a file is written or replaced; None if there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116  # symbolic links are followed by both; this one says so
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
