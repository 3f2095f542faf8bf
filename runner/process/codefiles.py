"""The files of the project's own code, which a reload watches.

Rule 1: in the project's folder, every folder with Python files is watched, except for hidden ones, those that tools fill (virtual
        environments, node_modules), and those of tests. `functions/` and `streams/` are watched as a whole, apart from this.
Rule 2: elsewhere, the folders of modules are watched that functions have imported and that are no installed packages: a worker
        tells them.
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
"""Names of temporary files that editors and tools write beside the edited file."""
_TEST = re.compile(r"test_.*|.*_test\.py|conftest\.py")
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OTHERS = frozenset({"__pycache__", "node_modules", *_INSTALLED})
_APART = frozenset({*WHOLE, "test", "tests"})
"""Folders of the project that are watched by themselves, or not at all."""


class Code(Struct, frozen=True):
    """The code as one look has found it."""

    folders: tuple[str, ...]
    """Folders that have Python files in them or below, or may become packages."""
    stamps: dict[str, int]
    """The time of the last change of each file of code."""


def is_file(name: str) -> bool:
    """Whether a file with this name is not a temporary file."""
    return not _TEMPORARY.fullmatch(name)


def is_code(name: str) -> bool:
    """Whether a file with this name may be a module of the project, and is not a test."""
    return name.endswith(".py") and is_file(name) and not _TEST.fullmatch(name)


def is_folder(name: str) -> bool:
    """Whether a folder with this name may have files of the project."""
    return not name.startswith(".") and name not in _OTHERS


def stamp(path: str) -> int | None:
    """When a file was changed last; None when there is none."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  called for very many files
    except OSError:
        return None


def forget_compiled(file: Path) -> None:
    """Remove the compiled form of a changed source: Python sees a change only in the size, or in the time in whole seconds."""
    if file.suffix == ".py":
        with suppress(OSError, NotImplementedError):
            Path(cache_from_source(str(file))).unlink()


def find(root: Path | None, elsewhere: Iterable[str]) -> Code:
    """Look through the project's folder and those below it (but for rule 1), and through these other folders alone."""
    folders: list[str] = []
    stamps: dict[str, int] = {}
    seen: set[str] = set()

    def look(folder: str, depth: int | None) -> bool:
        """Whether there is code in a folder or below it. With depth None the folders below it do not count."""
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
    """The folders outside the project with modules that this process has imported, and that are no installed packages."""
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
