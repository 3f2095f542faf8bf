"""Checks that the functions on the way of a split event fit together: each one must take what the one before makes.

Rule 1: a warning is given only if it is certain that two types do not fit. There is none if an annotation is missing, or the types may fit.
Rule 2: texts and bytes fit every type: a text that is sent may hold anything, and any body can be taken as a text.
"""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Literal, TypeAlias

from msgspec import NODEFAULT
from msgspec import inspect as types

from runner.annotation import bare, spell
from runner.bindings import Binding
from runner.core.subject import overlaps
from runner.gathers import reached, splits

Kind: TypeAlias = Literal["an object", "a list", "a number", "a truth value", "a text", "anything"]

_ITERATED = (
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
)
_AWAITED = (collections.abc.Awaitable, collections.abc.Coroutine)
_OBJECTS = (types.StructType, types.DataclassType, types.TypedDictType)
_KINDS: dict[Kind, tuple[type[types.Type], ...]] = {
    "an object": (*_OBJECTS, types.DictType),
    "a list": (
        types.ListType,
        types.SetType,
        types.FrozenSetType,
        types.VarTupleType,
        types.TupleType,
        types.NamedTupleType,
    ),
    "a number": (types.IntType, types.FloatType),
    "a truth value": (types.BoolType,),
    "a text": (types.StrType, types.BytesType),
}


def warnings(functions: Sequence[Binding]) -> Iterator[str]:
    """A warning for each function whose output the next one cannot take."""
    known = tuple(functions)
    joins = {each.function for each in known if each.joins is not None}
    on_way = {name for each in known if splits(each) for name in (each.function, *reached(each, known))}
    for maker, taker in product(known, known):
        body = taker.signature.body
        leads = taker.function in joins or bool(joins & reached(taker, known))
        if maker.output is None or body is None or maker.function not in on_way or not leads:
            continue
        if overlaps(maker.output.wildcard, taker.subject.wildcard):
            made, taken = made_by(maker), body.annotation
            if why := unfit(made, taken):
                yield (
                    f"{taker.function} takes {_spelt(taken)} from {taker.subject.text}, and {maker.function}, whose output goes there, "
                    f"{'yields' if splits(maker) else 'makes'} {_spelt(made)}: {why}"
                )


def made_by(binding: Binding) -> Any:
    """The type of one output, by the handler's annotation; Any if it has none."""
    function = inspect.unwrap(binding.handler)
    try:
        found = typing.get_type_hints(function).get("return", Any)
    except Exception:  # noqa: BLE001  an annotation may raise anything
        return Any
    if typing.get_origin(found) in _AWAITED:
        found = (typing.get_args(found) or (Any,))[-1]
    if binding.kind.endswith("generator"):
        inner = typing.get_args(found) if typing.get_origin(found) in _ITERATED else ()
        return inner[0] if inner else Any
    if binding.batch:
        inner = typing.get_args(bare(found))
        return inner[0] if len(inner) == 1 else Any
    return found


def unfit(made: Any, taken: Any) -> str:
    """Why no value of the type `made` can be taken as the type `taken`; empty if one may be."""
    made, taken = bare(made), bare(taken)
    if made is taken or {made, taken} & {Any, object, None, type(None), str, bytes, bytearray, memoryview}:
        return ""
    try:
        return _unfit(types.type_info(made), types.type_info(taken))
    except Exception:  # noqa: BLE001  msgspec raises several errors for types that it does not know
        return ""


def _unfit(made: types.Type, taken: types.Type) -> str:
    is_made, is_taken = _kind(made), _kind(taken)
    if "anything" in (is_made, is_taken):
        return ""
    if is_made != is_taken:
        return f"{is_made} is not {is_taken}"
    if not isinstance(made, _OBJECTS) or not isinstance(taken, _OBJECTS):
        return ""
    given = {field.encode_name: field for field in made.fields}
    lacking = [
        field.encode_name for field in taken.fields if field.required and field.encode_name not in given
    ]
    if lacking:
        return f"it has no {', '.join(map(repr, lacking))}"
    for field in taken.fields:
        other = given.get(field.encode_name)
        if other is None or not (other.required or other.default is NODEFAULT):
            continue
        one, two = _kind(other.type), _kind(field.type)
        if "anything" not in (one, two) and one != two:
            return f"its {field.encode_name!r} is {one}, and not {two}"
    return ""


def _kind(shape: types.Type) -> Kind:
    """What a type is in JSON; unions, and types with several forms (a date, an enum), count as anything."""
    inner = shape.type if isinstance(shape, types.Metadata) else shape
    if isinstance(inner, types.StructType):
        if inner.tag is not None:
            return "anything"
        return "a list" if inner.array_like else "an object"
    return next((kind for kind, kinds in _KINDS.items() if isinstance(inner, kinds)), "anything")


def _spelt(annotation: Any) -> str:
    return spell(bare(annotation))
