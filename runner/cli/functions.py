"""The functions of the project at hand, and what is left of those that it has no more."""

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
    """Their names; None when nobody knows."""
    return None if functions is None else frozenset(each.function for each in functions)


def removal(function: str) -> str:
    """What to do about a function that is not in the code any more."""
    return (
        f'{function} has another name now? renamed_from="{function}" goes on where it is; '
        f"it does not come back? runner function forget {function}"
    )


def in_nats(root: Path, project: str, name: str) -> str:
    """The name in NATS of a function that the code may call otherwise; the same where the code does not tell."""
    return called(all_functions(root, project), name)


def called(code: tuple[Binding, ...] | None, name: str) -> str:
    """The same, by code that is read already."""
    return next((each.function for each in code or () if each.label == name), name)
