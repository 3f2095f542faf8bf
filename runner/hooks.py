"""`@around`: hooks, which run around the attempts of a project's functions.

Rule 1: whatever is wrong with a hook is a BindingError at import, naming file and line.
Rule 2: hooks of the project run outside of a module's. Hooks with the same scope nest in the order of their modules' names, then as
        they are written; the first is the outermost.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, Literal, TypeVar, overload

from msgspec import Struct, structs

from runner import signature
from runner.bindings import HOOK, Binding, is_bound, place_of, require_function
from runner.context import Context
from runner.errors import BindingError

H = TypeVar("H", bound=Callable[[Context[Any], Callable[[], Awaitable[Any]]], Awaitable[Any]])

_MODULE = "__jetrunner_hooks__"
_SCOPES = ("project", "module")
_EXAMPLE = "write `async def timed(ctx: Context, call): return await call()`"


class Hook(Struct, frozen=True):
    """What `around` has attached to a function."""

    function: Callable[..., Any]
    scope: Literal["project", "module"]
    file: str
    line: int

    @property
    def module(self) -> str:
        """The module in which the hook is written."""
        return self.function.__module__

    @property
    def name(self) -> str:
        """The hook's name in errors, as `functions.hooks.timed`."""
        return f"{self.module}.{self.function.__qualname__}"

    def surrounds(self, binding: Binding) -> bool:
        """Whether the hook runs around this function."""
        return self.scope == "project" or inspect.unwrap(binding.handler).__module__ == self.module


@overload
def around(function: H) -> H: ...
@overload
def around(*, scope: Literal["project", "module"] = "project") -> Callable[[H], H]: ...
def around(function: Any = None, *, scope: Any = "project") -> Any:
    """Run an `async def hook(ctx, call)` around every attempt of every function; it awaits `call()`, which runs the handler.

    With `scope="module"` it runs around the functions of its own module alone. `call()` returns the handler's result (for a
    generator, the list of its items), and raises what the handler raised. If the hook returns None, the result stays;
    another value takes its place. An exception of the hook ends the attempt. The attempt fails if the hook returns None
    without having awaited `call()`. BindingError when something is wrong, at import.
    """
    if function is not None and callable(function):
        return _attach(function, scope, *place_of(function, inspect.currentframe()))
    file, line = place_of(None, inspect.currentframe())
    if function is not None:
        raise BindingError(
            f"only a function can be a hook, not {function!r}",
            file=file,
            line=line,
            hint='write @around(scope="module")',
        )
    _require_scope(scope, file, line)
    return lambda hook: _attach(hook, scope, *place_of(hook, inspect.currentframe()))


def _attach(function: Any, scope: Any, file: str, line: int) -> Any:
    require_function(function, "only a function can be a hook", file, line)
    _require_scope(scope, file, line)
    if is_bound(function):
        raise BindingError(
            f"{function.__name__} is a function with a binding, or a hook already",
            file=file,
            line=line,
            hint="a hook stands for itself: write a second function",
        )
    if signature.kind(function) != "async":
        raise BindingError(f"the hook {function.__name__} is not async", file=file, line=line, hint=_EXAMPLE)
    parameters = inspect.signature(function).parameters.values()
    places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if len(places) != 2 or len(parameters) != 2:
        raise BindingError(
            f"the hook {function.__name__} takes two parameters by position, the context and the call",
            file=file,
            line=line,
            hint=_EXAMPLE,
        )
    vars(function)[HOOK] = Hook(function, scope, file, line)
    if "<locals>" not in function.__qualname__:  # a hook that a test makes is for that test alone
        # The module keeps the list, as it does for functions: it has hooks whose name was assigned again, too.
        function.__globals__.setdefault(_MODULE, []).append(function)
    return function


def _require_scope(scope: Any, file: str, line: int) -> None:
    if scope not in _SCOPES:
        raise BindingError(
            f"scope={scope!r} is not a scope of a hook",
            file=file,
            line=line,
            hint='write scope="module" for the functions of its module, or leave it out for all of the project',
        )


def hook_of(function: Any) -> Hook | None:
    """The `Hook` of a function; None if it is not a hook. BindingError if another decorator was put around a hook."""
    hook = vars(function).get(HOOK) if type(function) is FunctionType else None
    if not isinstance(hook, Hook):
        return None
    if hook.function is not function:
        raise BindingError(
            f"{function.__name__} is a hook, and then decorated again",
            file=hook.file,
            line=hook.line,
            hint="put @around outermost, above the other decorators",
        )
    return hook


def hooks_in(namespace: Mapping[str, Any]) -> list[Hook]:
    """The hooks that a module holds, or has made, even if their name was assigned again later."""
    found = (hook_of(each) for each in (*namespace.get(_MODULE, ()), *namespace.values()))
    return [hook for hook in found if hook is not None]


def of_modules(functions: Iterable[Binding]) -> list[Hook]:
    """The hooks with `scope="module"` that are written in the modules of these functions."""
    found = (hook for each in functions for hook in hooks_in(inspect.unwrap(each.handler).__globals__))
    return [hook for hook in found if hook.scope == "module"]


def ordered(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Each hook once, the outermost first."""
    once = {id(hook.function): hook for hook in hooks}.values()
    return tuple(sorted(once, key=lambda hook: (_SCOPES.index(hook.scope), hook.module, hook.line)))


def surrounded(functions: Iterable[Binding], hooks: Iterable[Hook]) -> tuple[Binding, ...]:
    """The functions, each with the hooks that run around it."""
    every = ordered(hooks)
    return tuple(
        structs.replace(each, around=tuple(hook.function for hook in every if hook.surrounds(each)))
        if every
        else each
        for each in functions
    )
