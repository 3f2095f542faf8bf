"""`@around`: hooks, which run around the attempts of a project's functions.

Rule 1: whatever is wrong with a hook is a BindingError at import, naming file and line.
Rule 2: hooks of the project run outside of a module's; of one kind, in the order of their modules' names, then as written.
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
        """The module that it is written in."""
        return self.function.__module__

    @property
    def name(self) -> str:
        """`functions.hooks.timed`, as errors name it."""
        return f"{self.module}.{self.function.__qualname__}"

    def surrounds(self, binding: Binding) -> bool:
        """Whether it runs around this function."""
        return self.scope == "project" or inspect.unwrap(binding.handler).__module__ == self.module


@overload
def around(function: H) -> H: ...
@overload
def around(*, scope: Literal["project", "module"] = "project") -> Callable[[H], H]: ...
def around(function: Any = None, *, scope: Any = "project") -> Any:
    """Run an `async def hook(ctx, call)` around every attempt of every function; it awaits `call()`, which runs the handler.

    With `scope="module"` it runs around the functions of its own module alone. `call()` gives what the handler returned, of a
    generator the list of its items, and raises what the handler raised. A hook that returns None changes nothing;
    anything else takes the place of the handler's result. What the hook raises ends the attempt. It fails
    when the hook returns None without having awaited `call()`. BindingError when something is wrong, at import.
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
    if "<locals>" not in function.__qualname__:  # one that a test makes is of that test alone
        # Kept in the module itself, as functions are: a redefined name is found this way.
        function.__globals__.setdefault(_MODULE, []).append(function)
    return function


def _require_scope(scope: Any, file: str, line: int) -> None:
    if scope not in _SCOPES:
        raise BindingError(
            f"scope={scope!r} is no scope of a hook",
            file=file,
            line=line,
            hint='write scope="module" for the functions of its module, or leave it out for all of the project',
        )


def hook_of(function: Any) -> Hook | None:
    """The hook that a function is; None for every other. BindingError where another decorator was put around it."""
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
    """The hooks that a module's code has written, those whose name was taken over later included, or holds."""
    found = (hook_of(each) for each in (*namespace.get(_MODULE, ()), *namespace.values()))
    return [hook for hook in found if hook is not None]


def of_modules(functions: Iterable[Binding]) -> list[Hook]:
    """The hooks with `scope="module"` that are written in the modules of these functions."""
    found = (hook for each in functions for hook in hooks_in(inspect.unwrap(each.handler).__globals__))
    return [hook for hook in found if hook.scope == "module"]


def ordered(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Each once, the outermost first."""
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
