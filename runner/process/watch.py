"""Watches the files of a project's code, inside and outside of its folder, and tells which have changed.

Rule 1: when a folder comes or goes, the list of folders is made again; changes meanwhile are found by the times of the files.
Rule 2: a change is told once, however it was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from runner.process import codefiles

FILE = "pyproject.toml"
DEBOUNCE_MS = 100
STEP_MS = 20
LOOK_UP_MS = 200
"""How long the watcher may go on after its task was cancelled."""
AGAIN_SECONDS = 1.0
"""Time from the start of a watcher until the files are looked at once more: nobody knows when exactly it begins to watch."""


def is_possible() -> bool:
    """Whether files can be watched here."""
    try:
        import watchfiles  # noqa: F401, PLC0415  an extra
    except ImportError:
        return False
    return True


class Watch:
    """Tells of changes in the files of one project; `told` gets a sentence if folders cannot be watched."""

    def __init__(self, root: Path, told: Callable[[str], None]) -> None:
        self._root = root
        self._told = told
        self._changed: Callable[[Sequence[str]], None] = lambda _: None
        self._elsewhere: dict[str, None] = {}
        self._folders: frozenset[str] = frozenset()
        self._stamps: dict[str, int] | None = None
        """The time of the last change of each file; None before the first look."""
        self._whole_moved = asyncio.Event()
        self._code_moved = asyncio.Event()
        self._failed = ""

    async def run(self, changed: Callable[[Sequence[str]], None]) -> None:
        """Call `changed` with the names of changed files, until this task is cancelled."""

        def tell(names: Sequence[str]) -> None:
            for name in names:
                codefiles.forget_compiled(self._root / name)
            changed(names)

        self._changed = tell
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_follow, self._whole_moved, self._watch_whole)
            tasks.start_soon(_follow, self._code_moved, self._watch_code)
            async for paths in self._changes([str(self._root)], recursive=False):
                self._note_root(paths)

    def also(self, folders: Iterable[str]) -> None:
        """Watch the code in these folders, too: a worker reads it."""
        for folder in folders:
            if folder not in self._elsewhere:
                self._elsewhere[folder] = None
                if self._stamps is not None:  # the worker has read these files as they are
                    self._stamps |= codefiles.find(None, (folder,)).stamps
                self._code_moved.set()

    # -- the three watchers ------------------------------------------------------------------------------

    async def _watch_whole(self) -> None:
        there = [str(path) for name in codefiles.WHOLE if (path := self._root / name).is_dir()]
        if not there:
            return
        async for paths in self._changes(there, recursive=True):
            if names := [self._name(path) for path in paths if self._counts(path)]:
                self._changed(names)

    async def _watch_code(self) -> None:
        found = await self._look()
        self._folders = frozenset(found.folders)
        folders = [folder for folder in found.folders if folder != str(self._root)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_again)
            if not folders:
                return
            try:
                async for paths in self._changes(folders, recursive=False):
                    self._note_code(paths)
            except FileNotFoundError:  # a folder has gone since it was found
                await anyio.sleep(STEP_MS / 1000)
                self._code_moved.set()
            except OSError as error:
                if self._failed != str(error):
                    self._failed = str(error)
                    self._told(f"code outside of functions/ is not watched: {error}")

    async def _look_again(self) -> None:
        await anyio.sleep(AGAIN_SECONDS)
        await self._look()

    async def _look(self) -> codefiles.Code:
        """Find the code as it is now, and tell which files have changed since the last look."""
        found = await anyio.to_thread.run_sync(codefiles.find, self._root, tuple(self._elsewhere))
        before, self._stamps = self._stamps, dict(found.stamps)
        if before is None:
            return found
        changed = []
        for path in {*before, *found.stamps}:
            if before.get(path) != found.stamps.get(path):
                now = self._remember(path)  # a watcher may have told the change during this look
                if before.get(path) != now:
                    changed.append(self._name(path))
        if changed:
            self._changed(sorted(changed))
        return found

    # -- changes that a watcher has seen -----------------------------------------------------------------

    def _note_root(self, paths: Sequence[str]) -> None:
        names = [Path(path).name for path in paths]
        if any(name in codefiles.WHOLE for name in names):
            self._whole_moved.set()
        if wanted := [name for name in names if name in (FILE, *codefiles.WHOLE)]:
            self._changed(wanted)
        self._note_code([path for path in paths if Path(path).name not in wanted])

    def _note_code(self, paths: Sequence[str]) -> None:
        changed = []
        for path in paths:
            if not codefiles.is_code(Path(path).name):
                if path in self._folders or (Path(path).is_dir() and codefiles.is_folder(Path(path).name)):
                    self._code_moved.set()
                continue
            if self._stamps is None:
                continue
            before = self._stamps.get(path)
            if before != self._remember(path):
                changed.append(self._name(path))
        if changed:
            self._changed(changed)

    def _remember(self, path: str) -> int | None:
        """Note the time of a file's last change, and return it; None if there is no file."""
        assert self._stamps is not None
        self._stamps.pop(path, None)
        if (now := codefiles.stamp(path)) is not None:
            self._stamps[path] = now
        return now

    def _counts(self, path: str) -> bool:
        found = Path(path)
        parts = found.relative_to(self._root).parts if found.is_relative_to(self._root) else ()
        return all(codefiles.is_folder(part) for part in parts)

    def _name(self, path: str) -> str:
        found = Path(path)
        return str(found.relative_to(self._root)) if found.is_relative_to(self._root) else path

    async def _changes(self, paths: Sequence[str], *, recursive: bool) -> AsyncIterator[list[str]]:
        from watchfiles import awatch  # noqa: PLC0415  an extra

        async for changes in awatch(
            *paths,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            rust_timeout=LOOK_UP_MS,
            recursive=recursive,
        ):
            if names := {path for _, path in changes if codefiles.is_file(Path(path).name)}:
                yield sorted(names)


async def _follow(moved: asyncio.Event, watch: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `watch`, and start it again whenever `moved` is set."""
    while True:
        moved.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await moved.wait()
            tasks.cancel_scope.cancel()
