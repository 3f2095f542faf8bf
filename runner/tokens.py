"""Subject tokens: text converted to the annotation of the parameter that takes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, get_origin

import msgspec
from msgspec import inspect

from runner.annotation import bare, spell

_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")

_CONVERTIBLE = (
    inspect.BoolType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.FloatType,
    inspect.IntType,
    inspect.LiteralType,
    inspect.NoneType,
    inspect.StrType,
    inspect.TimeDeltaType,
    inspect.TimeType,
    inspect.UUIDType,
)


def converter(annotation: Any) -> Callable[[str], Any]:
    """Compile the conversion of a token; it raises ValueError for a text that cannot be converted.

    TypeError when no token can be converted to the annotation.
    """
    core = bare(annotation)
    if core is Any or core is object or annotation is str:
        return as_it_is
    if core is bytes:
        return str.encode
    if annotation is int:
        return _integer
    shape = inspect.type_info(annotation)
    kinds = shape.types if isinstance(shape, inspect.UnionType) else (_inner(shape),)
    if not all(isinstance(_inner(kind), _CONVERTIBLE) for kind in kinds):
        raise TypeError(
            f"a subject token cannot become {spell(annotation)}"
            + (": it is one text; lists are for handlers with batch=" if _is_list(core) else "")
        )

    def convert(token: str) -> Any:
        try:
            return msgspec.convert(token, annotation, strict=False)
        except msgspec.ValidationError:
            pass
        raise ValueError(f"{spell(annotation)} expected")

    return convert


def _is_list(core: Any) -> bool:
    return core in (list, tuple) or get_origin(core) in (list, tuple, Sequence)


def _inner(shape: inspect.Type) -> inspect.Type:
    return shape.type if isinstance(shape, inspect.Metadata) else shape


def as_it_is(token: str) -> str:
    """The token, not converted."""
    return token


def _integer(token: str) -> int:
    # int() itself would also take "1_0" and digits of other scripts.
    if _INTEGER.fullmatch(token):
        return int(token)
    raise ValueError("int expected")
