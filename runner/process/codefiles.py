"""Where the project's own code is: what a reload watches.

Rule 1: below the project's folder, every folder with Python files but those that are hidden, that others filled (virtual
        environments, node_modules), or that hold tests. `functions/` and `streams/` are watched as a whole, apart from this.
Rule 2: elsewhere, the folders of what the functions have imported and that nobody installed: a worker tells them.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path

from msgspec import Struct

WHOLE = ("functions", "streams")
"""Folders of the project in which every file counts."""
_TEMPORARY = re.compile(
    r"[.#].*|.*~|\d+|sed\w{6}|flycheck_.*|.*\.(tmp|swp|swx|bak)(\..*)?|.*___jb_\w+___", re.DOTALL
)
"""Names of files that editors and tools write beside the one that is meant."""
_TEST = re.compile(r"test_.*|.*_test\.py|conftest\.py")
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OTHERS = frozenset({"__pycache__", "node_modules", *_INSTALLED})
_APART = frozenset({*WHOLE, "test", "tests"})
"""Folders of the project that are watched by themselves, or not at all."""


class Code(Struct, frozen=True):
    """What was found at one time."""

    folders: tuple[str, ...]
    """With Python files in them or below, or that may become packages."""
    stamps: dict[str, int]
    """The time of the last change of each file of code."""


def is_file(name: str) -> bool:
    """Whether a file of this name is one that somebody meant to write."""
    return not _TEMPORARY.fullmatch(name)


def is_code(name: str) -> bool:
    """Whether a file of this name may be a module of the project's, and no test."""
    return name.endswith(".py") and is_file(name) and not _TEST.fullmatch(name)


def is_folder(name: str) -> bool:
    """Whether a folder of this name may hold something of the project's."""
    return not name.startswith(".") and name not in _OTHERS


def stamp(path: str) -> int | None:
    """When a file was changed last; None when there is none."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  of very many files
    except OSError:
        return None


def forget_compiled(file: Path) -> None:
    """Remove what Python has compiled of a file that changed: it tells sources apart by size and whole seconds."""
    if file.suffix == ".py":
        with suppress(OSError, NotImplementedError):
            Path(cache_from_source(str(file))).unlink()


def find(root: Path | None, elsewhere: Iterable[str]) -> Code:
    """Look through the project's folder, and at these others."""
    folders: list[str] = []
    stamps: dict[str, int] = {}
    seen: set[str] = set()

    def look(folder: str, depth: int | None) -> bool:
        """Whether there is code in it or below; the depth is None for one whose folders do not count."""
        real = os.path.realpath(folder)
        if real in seen:
            return False
        seen.add(real)
        try:
            with os.scandir(folder) as scanned:
                entries = list(scanned)
        except OSError:
            return False
        if depth and any(entry.name == "pyvenv.cfg" for entry in entries):
            return False
        found = False
        for entry in entries:
            if is_code(entry.name):
                if (when := stamp(entry.path)) is not None:
                    stamps[entry.path] = when
                    found = True
            elif depth is not None and is_folder(entry.name) and (depth or entry.name not in _APART):
                with suppress(OSError):
                    found = (entry.is_dir() and look(entry.path, depth + 1)) or found
        if found or not entries or (depth == 1 and os.path.basename(folder).isidentifier()):  # noqa: PTH119
            folders.append(folder)
        return found

    if root is not None:
        look(str(root), 0)
    for folder in elsewhere:
        look(folder, None)
    return Code(tuple(folders), stamps)


def imported_elsewhere(root: Path) -> list[str]:
    """The folders outside the project of modules that this process has imported and that nobody installed."""
    # Not `sys.prefix`: it may be /usr, and the project in /usr/src.
    installed = {os.path.realpath(path) for name, path in sysconfig.get_paths().items() if "lib" in name}
    found: dict[str, None] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in {"runner", "__main__"} or not isinstance(file, str):
            continue
        path = Path(os.path.realpath(file))
        inside = path.is_relative_to(root) or any(path.is_relative_to(place) for place in installed)
        if path.suffix == ".py" and not inside and not _INSTALLED.intersection(path.parts):
            found[str(path.parent)] = None
    return list(found)
