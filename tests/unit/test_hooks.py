"""`@around`: what is attached, in which order hooks run, and every way to get it wrong, told at import with file and line."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from runner import Context, around, consume, cron, lifespan
from runner.bindings import binding_of
from runner.discovery import Project, load, unload
from runner.errors import BindingError
from runner.hooks import hook_of, hooks_in, ordered

Call = Callable[[], Awaitable[Any]]


async def plain(ctx: Context, call: Call) -> None:
    await call()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Imports a project with these modules; `functions/<name>.py` each."""

    def make(**modules: str) -> Project:
        folder = tmp_path / "functions"
        folder.mkdir()
        (folder / "__init__.py").touch()
        for name, text in modules.items():
            (folder / f"{name}.py").write_text("from runner import *\n" + dedent(text))
        return load(tmp_path, "shop")

    yield make
    unload()


def names(project: Project, function: str) -> list[str]:
    """The hooks around a function, the outermost first."""
    [binding] = [each for each in project.functions if each.function == function]
    return [f"{each.__module__}.{each.__name__}" for each in binding.around]


@pytest.mark.parametrize(
    ("decorate", "scope"),
    [
        (around, "project"),
        (around(), "project"),
        (around(scope="project"), "project"),
        (around(scope="module"), "module"),
    ],
)
def test_the_same_function_is_returned_with_what_it_was_told(decorate: Any, scope: str) -> None:
    async def hook(ctx: Context, call: Call) -> None: ...

    assert decorate(hook) is hook
    found = hook_of(hook)
    assert found is not None
    assert (found.function, found.scope, found.file) == (hook, scope, __file__)
    assert found.name == f"{__name__}.{hook.__qualname__}"
    with pytest.raises(AttributeError):
        found.scope = "module"  # type: ignore[misc]


def test_what_is_no_hook_is_none() -> None:
    assert hook_of(plain) is hook_of(None) is hook_of(int) is None


class Holder:
    async def method(self, call: Call) -> None: ...


def not_async(ctx: Context, call: Call) -> None: ...


async def generator(ctx: Context, call: Call) -> Any:
    yield await call()


async def one(ctx: Context) -> None: ...


async def three(ctx: Context, call: Call, more: int = 0) -> None: ...


async def by_name(ctx: Context, *, call: Call) -> None: ...


async def anything(*given: Any) -> None: ...


@pytest.mark.parametrize(
    ("hook", "message", "hint"),
    [
        (not_async, "the hook not_async is not async", "async def"),
        (generator, "the hook generator is not async", "async def"),
        (
            one,
            "the hook one takes two parameters by position, the context and the call",
            "ctx: Context, call",
        ),
        (three, "the hook three takes two parameters", "ctx: Context, call"),
        (by_name, "the hook by_name takes two parameters", "ctx: Context, call"),
        (anything, "the hook anything takes two parameters", "ctx: Context, call"),
        (Holder.method, "only a function can be a hook, and Holder.method is a method", ""),
        (Holder, "only a function can be a hook, not <class", ""),
        (functools.partial(plain), "only a function can be a hook, not functools.partial", ""),
    ],
)
def test_what_cannot_be_a_hook_is_told_with_file_and_line(hook: Any, message: str, hint: str) -> None:
    for decorate in (around, around(scope="module")):
        with pytest.raises(BindingError, match=message) as caught:
            decorate(hook)
        assert __file__ in str(caught.value)
        assert hint in caught.value.hint


def test_a_scope_that_is_none_is_told() -> None:
    with pytest.raises(BindingError, match="scope='all' is not a scope of a hook") as caught:
        around(scope="all")  # type: ignore[call-overload]
    assert __file__ in str(caught.value)
    assert 'scope="module"' in caught.value.hint


def test_a_scope_without_its_name_is_told() -> None:
    with pytest.raises(BindingError, match="only a function can be a hook, not 'module'") as caught:
        around("module")  # type: ignore[call-overload]
    assert '@around(scope="module")' in caught.value.hint


def test_a_function_has_one_decorator_of_ours() -> None:
    async def handler(ctx: Context, call: Call) -> None: ...

    around(handler)
    with pytest.raises(BindingError, match="is a function with a binding, or a hook already"):
        around(handler)
    for decorate in (consume("orders.{call}"), cron("@hourly")):
        with pytest.raises(BindingError, match="handler is a hook; a function has one binding"):
            decorate(handler)
    with pytest.raises(BindingError, match="a lifespan is an async generator"):
        lifespan(handler)  # type: ignore[type-var]

    async def bound(body: bytes, ctx: Context) -> None: ...

    consume("orders")(bound)
    with pytest.raises(BindingError, match="bound is a function with a binding"):
        around(bound)  # type: ignore[type-var]
    assert binding_of(bound) is not None


def test_a_hook_that_is_decorated_again_is_told() -> None:
    @around
    async def hook(ctx: Context, call: Call) -> None: ...

    @functools.wraps(hook)
    async def again(ctx: Context, call: Call) -> None: ...

    with pytest.raises(BindingError, match="hook is a hook, and then decorated again") as caught:
        hooks_in({"again": again})
    assert caught.value.hint == "put @around outermost, above the other decorators"


def test_hooks_of_the_project_are_outside_of_a_modules_by_module_and_line(
    project: Callable[..., Project],
) -> None:
    found = project(
        zebra="""
            @around
            async def last(ctx, call): ...
        """,
        orders="""
            @around(scope="module")
            async def inside(ctx, call): ...
            @around
            async def second(ctx, call): ...
            @consume("orders.*")
            async def charge(body: bytes): ...
            @around(scope="module")
            async def inmost(ctx, call): ...
            @around
            async def third(ctx, call): ...
        """,
        a="""
            @around
            async def first(ctx, call): ...
            @consume("a.*")
            def other(body: bytes): ...
        """,
    )
    every = ["functions.a.first", "functions.orders.second", "functions.orders.third", "functions.zebra.last"]
    assert names(found, "other") == every
    assert names(found, "charge") == [*every, "functions.orders.inside", "functions.orders.inmost"]
    assert [hook.name for hook in found.hooks] == [
        *every,
        "functions.orders.inside",
        "functions.orders.inmost",
    ]


def test_a_hook_whose_name_was_taken_over_runs_and_one_that_is_imported_runs_once(
    project: Callable[..., Project],
) -> None:
    found = project(
        _private="""
            @around
            async def hidden(ctx, call): ...
            @around
            async def unheld(ctx, call): ...
        """,
        a="""
            from functions._private import hidden
            @around
            async def _(ctx, call): ...
            @around
            async def _(ctx, call): ...
        """,
        b="""
            from functions.a import _, hidden
            @consume("b.*")
            async def handle(body: bytes): ...
        """,
    )
    assert names(found, "handle") == ["functions._private.hidden", "functions.a._", "functions.a._"]


def test_a_hook_that_is_wrong_is_told_at_import(project: Callable[..., Project]) -> None:
    with pytest.raises(BindingError, match=r"functions/a\.py:2: the hook timed is not async"):
        project(a="@around\ndef timed(ctx, call): ...")


def test_functions_of_a_project_without_hooks_are_the_bindings_themselves(
    project: Callable[..., Project],
) -> None:
    found = project(a='@consume("a.*")\nasync def handle(body: bytes): ...')
    assert found.hooks == ()
    assert found.functions[0] is binding_of(found.functions[0].handler)


def test_each_hook_counts_once() -> None:
    async def hook(ctx: Context, call: Call) -> None: ...

    found = hook_of(around(hook))
    assert found is not None
    assert ordered([found, found]) == (found,)
