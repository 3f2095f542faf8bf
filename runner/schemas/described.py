"""What a handler says of itself: its docstring, and what it returns."""

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
    """One handler."""

    summary: str
    """The first line of its docstring, or its name."""
    description: str
    """The rest."""
    returns: Any
    """The annotation of what it returns, or of an item that it yields; `Any` where it does not say."""


def described(binding: Binding) -> Described:
    """Read a handler; what cannot be read is not said."""
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
    """What a returned value may be, by the way it travels, and whether it may be None, which is no body at all."""
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
    together: dict[Media, Any] = {kind: typing.Union[tuple(some)] for kind, some in found.items()}  # noqa: UP007  # of as many as there are
    return together, any(each in nothing for each in parts)


def without_none(annotation: Any) -> Any:
    """The same, without `| None`."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation
    others = tuple(each for each in typing.get_args(annotation) if each is not type(None))
    return typing.Union[others]  # noqa: UP007  # of as many as there are


def _returns(binding: Binding, handler: Any) -> Any:
    try:
        found = typing.get_type_hints(handler, include_extras=True).get("return", Any)
    except Exception:  # noqa: BLE001  a name that only the user's module knows, or none does
        return Any
    if binding.kind.endswith("generator"):
        arguments = typing.get_args(found)
        return arguments[0] if typing.get_origin(found) in _ITERATORS and arguments else Any
    return found
