"""Bodies: bytes to a handler's arguments, and values to bytes.

Everything is compiled once, when a function is bound. JSON, or MessagePack where the headers say so; `bytes` and
`str` are raw. What goes wrong is told without the body: an error ends in logs, spans and dead letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import signature as signature_of
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct, inspect

from runner import models
from runner.annotation import bare, spell
from runner.core import raised
from runner.core.subject import Template
from runner.signature import EMPTY, Signature
from runner.tokens import converter

__all__ = ["Call", "DecodeError", "EncodeError", "compile_call", "converter", "decoder", "encode", "explain"]

Read: TypeAlias = Callable[[bytes], Any]
Token: TypeAlias = tuple[str, int, int, Callable[[str], Any]]
"""A parameter that takes one: its name and place, the token's place in the subject, and what converts it."""

LONGEST = 300
"""Characters of a DecodeError: a hostile body can put its own text into the name of an unknown field."""

_VALUE = re.compile(r"\A(Invalid (?:enum )?value) .*?(?= - at `[^`]*`\Z|\Z)", re.DOTALL)


class DecodeError(ValueError):
    """A body or subject token is not what its parameter's annotation says."""


class EncodeError(ValueError):
    """A value cannot be sent."""


class Bound(Protocol):
    """What `compile_call` needs of a binding."""

    @property
    def subject(self) -> Template: ...

    @property
    def signature(self) -> Signature: ...

    @property
    def handler(self) -> Callable[..., Any]: ...


class Call(Struct, frozen=True):
    """How a delivery becomes the arguments of one handler."""

    bind: Callable[[bytes, bytes, bool, Any], Sequence[Any]]
    """Subject, body, whether that is MessagePack, and the context, to the arguments of `handler`.

    It runs the bare decoder, so it raises any Exception: `explain` makes a DecodeError of it.
    """
    handler: Callable[..., Any]
    """The handler, for arguments by position: of one that takes batches, these are lists."""
    taker: int | None
    """The place of the context among them; None where it takes none."""
    columns: Callable[[Sequence[bytes], Sequence[bytes]], list[Any] | None] | None = None
    """Subjects and JSON bodies of a batch, to a list for each argument, but for the context; decodes all bodies in one go.

    None where that is not possible; so is what it gives where it is not with these. It raises any Exception, too.
    """


def compile_call(binding: Bound) -> Call:
    """Compile a binding's arguments; TypeError when an annotation cannot be decoded to, NameError when not yet."""
    signature = binding.signature
    body, places = signature.body, {name: place for place, name in enumerate(signature.order)}
    positions = dict(zip(binding.subject.names, binding.subject.positions, strict=True))
    tokens = [(name, places[name], positions[name], converter(kind)) for name, kind in signature.tokens]
    handler = _by_position(binding.handler, signature)
    taker = places.get(signature.context or "")
    if body is None:
        return Call(_binder(len(places), None, tokens, taker), handler, taker)
    decode, from_json = decoder(body.annotation, body.default), _readers(body.annotation)[0]
    if signature.parts:
        joined = (places[body.name], _joined(decode))
        return Call(_binder(len(places), joined, tokens, taker), handler, taker)
    if len(places) == 1:

        def bind_body(_subject: bytes, data: bytes, msgpack: bool, _context: Any) -> Sequence[Any]:
            return (decode(data, msgpack) if msgpack or not data else from_json(data),)

        return Call(bind_body, handler, taker, _columns(len(places), from_json, 0, tokens))

    def read(data: bytes, msgpack: bool) -> Any:
        return decode(data, msgpack) if msgpack or not data else from_json(data)

    columns = _columns(len(places), from_json, places[body.name], tokens)
    return Call(_binder(len(places), (places[body.name], read), tokens, taker), handler, taker, columns)


def join(parts: Iterable[tuple[bool, bytes]]) -> bytes:
    """The bodies of a split event's parts as one, of which `bind` makes a list; with each, whether it is MessagePack."""
    return _msgpack.encode(list(parts))


def _joined(decode: Callable[[bytes, bool], Any]) -> Callable[[bytes, bool], Any]:
    def read(data: bytes, _msgpack: bool) -> list[Any]:
        return [decode(body, msgpack) for msgpack, body in _parts.decode(data)]

    return read


def _columns(
    count: int, from_json: Read, place: int, tokens: list[Token]
) -> Callable[[Sequence[bytes], Sequence[bytes]], list[Any] | None] | None:
    reader = getattr(from_json, "__self__", None)
    if not isinstance(reader, msgspec.json.Decoder):
        return None
    decode_lines, blank = reader.decode_lines, [None] * count

    def columns(subjects: Sequence[bytes], bodies: Sequence[bytes]) -> list[Any] | None:
        lines = b"\n".join(bodies)
        if lines.count(b"\n") != len(bodies) - 1:  # a body of several lines would be several values
            return None
        found = decode_lines(lines)
        if len(found) != len(bodies):
            return None
        made: list[Any] = blank.copy()
        made[place] = found
        if tokens:
            parts = [subject.decode(errors="surrogateescape").split(".") for subject in subjects]
            for _, at, position, convert in tokens:
                made[at] = [convert(each[position]) for each in parts]
        return made

    return columns


def _binder(
    count: int,
    body: tuple[int, Callable[[bytes, bool], Any]] | None,
    tokens: list[Token],
    taker: int | None,
) -> Callable[[bytes, bytes, bool, Any], Sequence[Any]]:
    blank: list[Any] = [None] * count
    place, read = body or (0, None)

    def bind(subject: bytes, data: bytes, msgpack: bool, context: Any) -> Sequence[Any]:
        arguments = blank.copy()
        if read is not None:
            arguments[place] = read(data, msgpack)
        if tokens:
            _bind_tokens(arguments, tokens, subject.decode(errors="surrogateescape").split("."))
        if taker is not None:
            arguments[taker] = context
        return arguments

    return bind


def _by_position(handler: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    """The handler for arguments by position: those of keyword-only parameters, or of a decorator with others, are passed by name."""
    first = len(signature.order) - signature.keywords
    if not _takes(handler, signature.order[:first]):
        first = 0
    names = signature.order[first:]
    if not names:
        return handler

    def call(*arguments: Any) -> Any:
        return handler(*arguments[:first], **dict(zip(names, arguments[first:], strict=True)))

    return call


def _takes(handler: Callable[..., Any], names: Sequence[str]) -> bool:
    """Whether its own first parameters, not those of what it may wrap, have these names, and may be given by position."""
    try:
        parameters = list(signature_of(handler, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):
        return False
    first = parameters[: len(names)]
    return [each.name for each in first] == list(names) and all(
        each.kind is each.POSITIONAL_OR_KEYWORD for each in first
    )


def decoder(annotation: Any = Any, default: Any = EMPTY) -> Callable[[bytes, bool], Any]:
    """Compile the decoding of a body: (bytes, is MessagePack) to value, raising DecodeError and nothing else.

    An empty body becomes the default. TypeError when the annotation cannot be decoded to, NameError when not yet.
    """
    from_json, from_msgpack = _readers(annotation)

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
    """A body: `bytes` and `str` as they are, everything else as JSON (or MessagePack). Raises EncodeError."""
    try:
        if isinstance(value, Struct):
            return _msgpack.encode(value) if msgpack else _json.encode(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, str):
            return value.encode()
        return _msgpack.encode(value) if msgpack else models.to_json(value) or _json.encode(value)
    except Exception as error:  # noqa: BLE001  # so may a type's own serialization
        text = raised.message(error)
    raise EncodeError(f"{spell(type(value))} cannot be encoded: {text}"[:LONGEST])


def explain(error: Exception) -> DecodeError:
    """Any failure to decode as a DecodeError that carries no input: neither in its text nor as its context."""
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


def _bind_tokens(arguments: list[Any], tokens: list[Token], parts: list[str]) -> None:
    for name, place, position, convert in tokens:
        try:
            arguments[place] = convert(parts[position])
        except IndexError:
            raise DecodeError(f"the subject has no token for {name!r}") from None
        except ValueError as error:
            raise DecodeError(f"token {name!r}: {raised.message(error)}") from None


def _readers(annotation: Any) -> tuple[Read, Read]:
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
    """Every class in a type that msgspec does not know, through fields and arguments."""
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
_parts = msgspec.msgpack.Decoder(list[tuple[bool, bytes]])
