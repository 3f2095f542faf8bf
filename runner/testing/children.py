"""How a child process gets the functions of a test: it imports the modules that they are written in."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from runner.runtime.cellline import GivenFunctions
from runner.testing.project import project_of

log = logging.getLogger("jetrunner.testing")


def given(
    root: Path, functions: Sequence[Callable[..., Any]], around: Sequence[Callable[..., Any]]
) -> GivenFunctions | None:
    """What a child needs to import these functions; None, and a warning, if it could not import them."""
    why = next((why for each in (*functions, *around) if (why := _why_not(each))), "")
    if not why:
        return GivenFunctions(tuple(sys.path), pickle.dumps(partial(project_of, root, functions, around)))
    log.warning('executor="process" runs in the process of the test, where a crash ends the test: %s', why)
    return None


def _why_not(function: Callable[..., Any]) -> str:
    """Why a child cannot import a function; empty where it can."""
    name = getattr(function, "__qualname__", repr(function))
    if "<locals>" in name:
        return f"{name} is written inside another function"
    module = function.__module__
    if module == "__main__" or not _is_found(module):
        return f"the module of {name}, {module}, cannot be imported by its name"
    return ""


def _is_found(module: str) -> bool:
    """Whether another process finds the file that is imported here under this name."""
    parts, places, spec = module.split("."), None, None
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        found = (finder.find_spec(name, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((each for each in found if each is not None), None)
        if spec is None:
            return False
        places = spec.submodule_search_locations
    here = getattr(sys.modules.get(module), "__file__", None)
    return spec is not None and spec.origin == here
