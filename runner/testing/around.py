"""The hooks around functions in a test: no project is there to find them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runner import hooks
from runner.bindings import Binding
from runner.errors import UsageError
from runner.hooks import Hook


def surrounded(functions: Sequence[Binding], given: Sequence[Callable[..., Any]]) -> tuple[Binding, ...]:
    """The functions, with the hooks of their modules and those that the test gives around them. Raises UsageError."""
    return hooks.surrounded(functions, [*hooks.of_modules(functions), *map(_hook, given)])


def _hook(function: Callable[..., Any]) -> Hook:
    hook = hooks.hook_of(function)
    if hook is None:
        raise UsageError(
            f"{getattr(function, '__name__', function)!r} is not a hook",
            hint="give around= what is decorated with @around, as it is imported",
        )
    return hook
