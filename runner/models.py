"""Pydantic models as bodies: pydantic itself decodes and encodes them, also inside other types.

Pydantic is the user's dependency, not ours: it is imported only if an annotation names a model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from runner.annotation import leaves

Read = Callable[[Any], Any]


def is_model(cls: Any) -> bool:
    """Whether a class is a pydantic model or a pydantic dataclass."""
    return isinstance(cls, type) and hasattr(cls, "__pydantic_core_schema__")


def mentions(annotation: Any) -> bool:
    """Whether an annotation names a model, alone or as a type argument. The fields of a Struct do not count."""
    return any(is_model(leaf) for leaf in leaves(annotation))


def readers(annotation: Any) -> tuple[Read, Read] | None:
    """Readers from JSON bytes and from builtin values; None when pydantic cannot take the whole annotation.

    NameError while a model's fields name something that is not defined yet.
    """
    from pydantic import PydanticSchemaGenerationError, TypeAdapter  # noqa: PLC0415  # not a dependency

    try:
        adapter = TypeAdapter(annotation)
        adapter.rebuild(raise_errors=True)
    except PydanticSchemaGenerationError:
        return None
    return adapter.validate_json, adapter.validate_python


def json_hook(cls: type, value: Any) -> Any:
    """Decode a model inside a JSON body as pydantic decodes JSON: there even strict models take dates as text."""
    return value if cls is object else _validated(_adapter(cls).validate_json, msgspec.json.encode(value))


def msgpack_hook(cls: type, value: Any) -> Any:
    """Decode a model inside a MessagePack body."""
    return value if cls is object else _validated(_adapter(cls).validate_python, value)


def to_json(value: Any) -> bytes | None:
    """A model as JSON, with the field names (aliases) that it reads; None when the value is not a model."""
    if not is_model(type(value)):
        return None
    encoded: bytes = type(value).__pydantic_serializer__.to_json(value, by_alias=True)
    return encoded


def to_builtins(value: Any) -> Any:
    """A model as builtin values, with the field names (aliases) that it reads."""
    return type(value).__pydantic_serializer__.to_python(value, mode="json", by_alias=True)


def explain(error: Exception) -> str | None:
    """What a pydantic ValidationError says, without the input it carries; None for any other error."""
    if not type(error).__module__.startswith("pydantic"):
        return None
    errors: Callable[..., list[dict[str, Any]]] | None = getattr(error, "errors", None)
    if errors is None:
        return None
    found = errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(_sentence(problem) for problem in found[:3])


def _validated(validate: Read, value: Any) -> Any:
    try:
        return validate(value)
    except ValueError as error:
        text = explain(error) or "Invalid"
    # msgspec takes over the text, and adds where in the body it happened.
    raise ValueError(text)


def _sentence(problem: dict[str, Any]) -> str:
    # The text of `union_tag_invalid` repeats the input.
    text = "Unknown tag" if problem["type"] == "union_tag_invalid" else problem["msg"]
    path = ".".join(str(step) for step in problem["loc"])
    return f"{text} - at `$.{path}`" if path else str(text)


@functools.lru_cache(maxsize=1_024)
def _adapter(cls: type) -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415  # not a dependency

    return TypeAdapter(cls)
