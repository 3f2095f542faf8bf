"""The functions of the project at hand, and a hint for functions that are not in its code any more."""

from __future__ import annotations

from pathlib import Path

from runner.bindings import Binding
from runner.cli import code
from runner.errors import UsageError


def all_functions(root: Path, project: str) -> tuple[Binding, ...] | None:
    """The project's functions; None when its code is not here, or cannot be imported."""
    try:
        return tuple(code.load(root, project or None).functions)
    except UsageError:
        return None


def ordered_functions(root: Path, project: str) -> tuple[Binding, ...] | None:
    """The project's functions that keep order; None when its code is not here, or cannot be imported."""
    found = all_functions(root, project)
    return None if found is None else tuple(each for each in found if each.ordered_by)


def names(functions: tuple[Binding, ...] | None) -> frozenset[str] | None:
    """The names of functions in NATS; None when the functions are not known."""
    return None if functions is None else frozenset(each.function for each in functions)


def removal(function: str) -> str:
    """A hint what to do about a function that is not in the code any more."""
    return (
        f'{function} has another name now? renamed_from="{function}" goes on where it is; '
        f"it does not come back? runner function forget {function}"
    )


def in_nats(root: Path, project: str, name: str) -> str:
    """A function's name in NATS, by its name in the code; `name` itself if the code does not have it."""
    return called(all_functions(root, project), name)


def called(code: tuple[Binding, ...] | None, name: str) -> str:
    """A function's name in NATS, by its name in code that was imported already; `name` itself if the code does not have it."""
    return next((each.function for each in code or () if each.label == name), name)
