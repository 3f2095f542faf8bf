"""The functions of the project at hand, and what is left of those that it has no more."""

from __future__ import annotations

from pathlib import Path

from runner.bindings import Binding
from runner.cli import code
from runner.core import identity
from runner.errors import UsageError
from runner.jetstream.ownstreams import AGAIN


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


def removal(project: str, function: str, stream: str, *, ordered: bool = True) -> str:
    """What to delete of a function that does not come back."""
    if not ordered:
        durable = identity.durable(project, function)
        return f"if {function} does not come back, delete its durables ({durable} on {stream} and {AGAIN}: `nats consumer rm`)"
    return (
        f"if {function} does not come back, delete its durables ({project}-{function}-* on {stream}: `nats consumer "
        f"rm`) and its place (`nats kv del jetrunner generation.{project}.{function}`)"
    )
