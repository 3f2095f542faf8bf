"""Reads what a handler says of itself: its docstring, and the annotation of what it returns."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from runner import codec
from runner.annotation import bare
from runner.bindings import Binding

Media: TypeAlias = Literal["json", "text", "bytes"]

_ITERATORS = (
    collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable,
    collections.abc.Iterator, collections.abc.Generator, collections.abc.Iterable,
)  # fmt: skip


class Described(Struct, frozen=True):
    """What one handler says of itself."""

    summary: str
    """The first line of the handler's docstring; without a docstring the binding's label."""
    description: str
    """The rest of the docstring."""
    returns: Any
    """The annotation of what the handler returns, or of an item that it yields; `Any` if it has none."""


def described(binding: Binding) -> Described:
    """Read the docstring and the return annotation of a binding's handler; `Any` stands for an annotation that cannot be read."""
    handler = inspect.unwrap(binding.handler)
    summary, _, rest = (inspect.getdoc(handler) or "").partition("\n")
    return Described(summary.strip() or binding.label, rest.strip(), _returns(binding, handler))


def media(annotation: Any) -> Media:
    """How a value of this type travels: `str` and `bytes` are raw, all else is JSON."""
    core = bare(annotation)
    if core is str:
        return "text"
    return "bytes" if codec.is_raw(annotation) else "json"


def answers(annotation: Any) -> tuple[dict[Media, Any], bool]:
    """The types that a returned value may have, by the way they travel, and whether the value may be None (an answer without a body)."""
    parts = [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = list(typing.get_args(annotation))
    if Any in parts:
        return {"json": Any, "text": str}, True
    nothing = (None, type(None))
    found: dict[Media, list[Any]] = {}
    for each in parts:
        if each not in nothing:
            found.setdefault(media(each), []).append(each)
    together: dict[Media, Any] = {kind: typing.Union[tuple(some)] for kind, some in found.items()}  # noqa: UP007  # any number of types
    return together, any(each in nothing for each in parts)


def without_none(annotation: Any) -> Any:
    """The annotation without `| None`."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation
    others = tuple(each for each in typing.get_args(annotation) if each is not type(None))
    return typing.Union[others]  # noqa: UP007  # any number of types


def _returns(binding: Binding, handler: Any) -> Any:
    try:
        found = typing.get_type_hints(handler, include_extras=True).get("return", Any)
    except Exception:  # noqa: BLE001  an annotation may hold a name that exists only in the user's module, or nowhere
        return Any
    if binding.kind.endswith("generator"):
        arguments = typing.get_args(found)
        return arguments[0] if typing.get_origin(found) in _ITERATORS and arguments else Any
    return found
