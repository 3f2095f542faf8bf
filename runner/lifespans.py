"""`@lifespan`: what a project opens before its first message and closes after its last one."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import FunctionType
from typing import Any, TypeVar

from runner.bindings import place_of
from runner.errors import BindingError

L = TypeVar("L", bound=Callable[[], AsyncIterator[Any] | AsyncGenerator[Any, None]])

_LIFESPAN = "__jetrunner_lifespan__"


def lifespan(function: L) -> L:
    """Run an async generator around the project's functions: what it yields is `ctx.state`, what follows cleans up.

    BindingError unless it is an async generator function without parameters.
    """
    file, line = place_of(function, inspect.currentframe())
    generator: bool = inspect.isasyncgenfunction(function)
    if not generator:
        raise BindingError(
            "a lifespan is an async generator",
            file=file,
            line=line,
            hint="write `async def`, and `yield` what ctx.state shall be",
        )
    if inspect.signature(function).parameters:
        raise BindingError("a lifespan takes no parameters", file=file, line=line)
    vars(function)[_LIFESPAN] = True
    return function


def is_lifespan(function: Any) -> bool:
    """Whether a function was decorated with `@lifespan`."""
    return type(function) is FunctionType and _LIFESPAN in vars(function)
