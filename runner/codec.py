"""Bodies: bytes to values, and values to bytes.

A body is JSON, or MessagePack where the headers say so; `bytes` and `str` stand for the body as it is. Decoders are compiled
once, when a function is bound. An error never repeats the body, since errors end in logs, spans and dead letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, inspect

from runner import models
from runner.annotation import bare, spell
from runner.core import raised
from runner.signature import EMPTY

Read: TypeAlias = Callable[[bytes], Any]

LONGEST = 300
"""Most characters of an error: a hostile body can put its own text into the name of an unknown field."""

_VALUE = re.compile(r"\A(Invalid (?:enum )?value) .*?(?= - at `[^`]*`\Z|\Z)", re.DOTALL)


class DecodeError(ValueError):
    """A body or subject token is not what its parameter's annotation says."""


class EncodeError(ValueError):
    """A value cannot be sent."""


def decoder(annotation: Any = Any, default: Any = EMPTY) -> Callable[[bytes, bool], Any]:
    """Compile a decoder. It takes bytes, and whether they are MessagePack; it returns a value, or raises DecodeError and nothing else.

    An empty body becomes the default. TypeError for a type that no body is decoded to, NameError for a name that is not defined yet.
    """
    from_json, from_msgpack = readers(annotation)

    def decode(body: bytes, msgpack: bool = False) -> Any:
        if not body:
            if default is EMPTY:
                raise DecodeError("empty body")
            return default
        try:
            return from_msgpack(body) if msgpack else from_json(body)
        except Exception as error:  # noqa: BLE001  # a type's own validation may raise anything
            failure = explain(error)
        # Raised out here, because the error above may hold the body and must not be this one's context.
        raise failure

    return decode


def encode(value: Any, *, msgpack: bool = False) -> bytes:
    """Encode a body: `bytes` and `str` as they are, everything else as JSON (or MessagePack). Raises EncodeError."""
    try:
        if isinstance(value, Struct):
            return _msgpack.encode(value) if msgpack else _json.encode(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, str):
            return value.encode()
        return _msgpack.encode(value) if msgpack else models.to_json(value) or _json.encode(value)
    except Exception as error:  # noqa: BLE001  # a type's own serialization may raise anything
        text = raised.message(error)
    raise EncodeError(f"{spell(type(value))} cannot be encoded: {text}"[:LONGEST])


def explain(error: Exception) -> DecodeError:
    """Make a DecodeError of any failure to decode. It carries no input, neither in its text nor as its context."""
    if isinstance(error, DecodeError):
        return error
    if isinstance(error, msgspec.MsgspecError):
        text = _VALUE.sub(r"\1", raised.message(error))
    elif isinstance(error, UnicodeDecodeError):
        text = f"not UTF-8: {error.reason} at byte {error.start}"
    elif isinstance(error, RecursionError):
        text = "nested too deep"
    else:
        text = models.explain(error) or f"{raised.name(error)} in the type's own validation"
    return DecodeError(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def is_raw(annotation: Any) -> bool:
    """Whether a type takes a body as it is, whatever the headers say: `bytes`, `str` and their like."""
    return bare(annotation) in _RAW


def readers(annotation: Any) -> tuple[Read, Read]:
    """The decoders of JSON and MessagePack to a type; `explain` takes their errors. TypeError for a type that no body is decoded to."""
    core = bare(annotation)
    if core in _RAW:
        raw = _RAW[core]
        if isinstance(annotation, type) or core is not str:
            return raw, raw
        return _checked(raw, annotation)
    if core is object:
        annotation = Any
    elif models.mentions(annotation) and (found := models.readers(annotation)):
        from_json, from_builtins = found
        return from_json, lambda body: from_builtins(msgspec.msgpack.decode(body))
    for cls in _customs(inspect.type_info(annotation), set()):
        if cls is not object and not models.is_model(cls):
            raise TypeError(
                f"{spell(cls)} is not a type that a body is decoded to; make it a Struct, dataclass, TypedDict, "
                "attrs class or pydantic model"
            )
    return (
        msgspec.json.Decoder(annotation, dec_hook=models.json_hook).decode,
        msgspec.msgpack.Decoder(annotation, dec_hook=models.msgpack_hook).decode,
    )


def _checked(raw: Read, annotation: Any) -> tuple[Read, Read]:
    def read(body: bytes) -> Any:
        return msgspec.convert(raw(body), annotation)

    return read, read


def _customs(shape: Any, seen: set[int]) -> Iterator[Any]:
    """Every class that msgspec does not know, in a type, its fields and its type arguments."""
    if id(shape) in seen:
        return
    seen.add(id(shape))
    if isinstance(shape, inspect.CustomType):
        yield shape.cls
    elif isinstance(shape, tuple):
        for item in shape:
            yield from _customs(item, seen)
    elif isinstance(shape, (inspect.Type, inspect.Field)):
        for field in shape.__struct_fields__:
            if field not in ("cls", "default", "default_factory"):
                yield from _customs(getattr(shape, field), seen)


def _json_hook(value: Any) -> Any:
    encoded = models.to_json(value)
    return _refuse(value) if encoded is None else msgspec.Raw(encoded)


def _msgpack_hook(value: Any) -> Any:
    return models.to_builtins(value) if models.is_model(type(value)) else _refuse(value)


def _refuse(value: Any) -> Any:
    raise TypeError(f"{spell(type(value))} is not a Struct, dataclass, TypedDict, attrs class or builtin")


_RAW: dict[Any, Read] = {bytes: bytes, bytearray: bytearray, memoryview: memoryview, str: bytes.decode}
_json = msgspec.json.Encoder(enc_hook=_json_hook)
_msgpack = msgspec.msgpack.Encoder(enc_hook=_msgpack_hook)
