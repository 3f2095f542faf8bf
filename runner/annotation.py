"""Annotations of parameters: the type inside its wrappers, the types that it names, and its text."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, NewType, Union, get_args, get_origin

_ALIAS: tuple[type, ...] = (typing.TypeAliasType,) if hasattr(typing, "TypeAliasType") else ()


def bare(annotation: Any) -> Any:
    """The type without `Annotated`, `NewType`, a `type` alias or `| None` around it."""
    while True:
        inner = _unwrapped(annotation)
        if inner is annotation:
            return annotation
        annotation = inner


def leaves(annotation: Any) -> Iterator[Any]:
    """Every type named in an annotation, type arguments included, but not the fields of classes."""
    annotation = bare(annotation)
    arguments = () if get_origin(annotation) is typing.Literal else get_args(annotation)
    if not arguments:
        yield annotation
    for argument in arguments:
        yield from leaves(argument)


def spell(annotation: Any) -> str:
    """The annotation as a user would write it."""
    return (
        annotation.__qualname__
        if isinstance(annotation, type) and not get_args(annotation)
        else repr(annotation)
    )


def _unwrapped(annotation: Any) -> Any:
    origin = get_origin(annotation)
    if origin is Annotated:
        return get_args(annotation)[0]
    if origin is Union or origin is types.UnionType:
        others = [argument for argument in get_args(annotation) if argument is not type(None)]
        return others[0] if len(others) == 1 else annotation
    if isinstance(annotation, NewType):
        return annotation.__supertype__
    if isinstance(annotation, _ALIAS):
        return annotation.__value__  # type: ignore[attr-defined]  # there from Python 3.12 on
    return annotation
