"""Hints for names that user code has misspelt, from the error with which its import failed."""

from __future__ import annotations

import inspect
import pkgutil
import re
import traceback
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runner.bindings import consume
from runner.core.retry import RetryPolicy
from runner.gathers import gather
from runner.hooks import around
from runner.replies import reply
from runner.schedules import cron
from runner.values import did_you_mean

_OURS: dict[str, Callable[..., Any]] = {
    **{each.__qualname__: each for each in (around, consume, cron, gather, reply)},
    **{f"RetryPolicy.{name}": getattr(RetryPolicy, name) for name in ("fixed", "random", "sequence")},
}
_CALLED = re.compile(r"([\w.]+)\(\) got an")
_ARGUMENT = re.compile(r"nexpected keyword argument '(\w+)'")


def hint(error: BaseException, root: Path) -> str:
    """The name that was perhaps meant, or what to do about the error; empty if neither is known."""
    if isinstance(error, ModuleNotFoundError):
        return _module(error.name or "", root)
    if isinstance(error, TypeError) and (found := _ARGUMENT.search(str(error))) and "ean '" not in str(error):
        return did_you_mean(found[1], _options(error))
    return ""


def _options(error: TypeError) -> Iterable[str]:
    """The keyword arguments of the callable, if it is the runner's. The error does not name a class: the line of the call does."""
    if found := _CALLED.match(str(error)):
        called = _OURS.get(found[1])
        return inspect.signature(called).parameters if called is not None else ()
    calls = [frame.line or "" for frame in traceback.extract_tb(error.__traceback__)][-1:]
    return inspect.signature(RetryPolicy).parameters if "RetryPolicy(" in "".join(calls) else ()


def _module(name: str, root: Path) -> str:
    package, _, last = name.rpartition(".")
    if not package:
        # The names known here are `functions` and the modules beside it; any other may be a package that is not installed.
        return did_you_mean(name, (each.name for each in pkgutil.iter_modules([str(root)]))) or INSTALLED
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    places = [str(place) for place in spec.submodule_search_locations or ()] if spec else []
    if not any(root in Path(place).resolve().parents for place in places):
        return INSTALLED
    near = did_you_mean(last, (each.name for each in pkgutil.iter_modules(places)))
    return (
        near.replace("mean '", f"mean '{package}.")
        or f"{package} is a package of this project, and has no {last}"
    )


INSTALLED = "is it installed?"
