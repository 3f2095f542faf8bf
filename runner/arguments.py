"""Turns a delivery into the arguments of a handler. The conversion is compiled once, when a function is bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import signature as signature_of
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from runner.codec import DecodeError, Read, decoder, readers
from runner.core import raised
from runner.core.httpendpoint import HttpEndpoint
from runner.core.subject import Template
from runner.signature import Signature
from runner.targets import Target, filling
from runner.tokens import as_it_is, converter

Token: TypeAlias = tuple[str, int, int, Callable[[str], Any]]
"""A parameter that takes a subject token: its name, its place, the token's place in the subject, and the token's converter."""

_PARTS = msgspec.msgpack.Decoder(list[tuple[bool, bytes]])


class Bound(Protocol):
    """What `compile_call` needs of a binding."""

    @property
    def subject(self) -> Template: ...  # noqa: D102  a field of Binding

    @property
    def signature(self) -> Signature: ...  # noqa: D102

    @property
    def route(self) -> HttpEndpoint | None: ...  # noqa: D102

    @property
    def handler(self) -> Callable[..., Any]: ...  # noqa: D102


class Call(Struct, frozen=True):
    """How a delivery becomes the arguments of one handler."""

    bind: Callable[[Any, bytes, bool, Any], Sequence[Any]]
    """Makes the arguments of `handler`. It takes the subject (or a `Target`), the body, whether that is MessagePack, and the context.

    It runs the bare decoder, which may raise any Exception: `codec.explain` makes a DecodeError of that.
    """
    handler: Callable[..., Any]
    """The handler; it takes its arguments by position. A handler of batches takes lists."""
    taker: int | None
    """The place of the context among the arguments; None where the handler takes no context."""
    columns: Callable[[Sequence[bytes], Sequence[bytes]], list[Any] | None] | None = None
    """Makes a list for each argument, but the context, from subjects and JSON bodies of a batch; decodes all bodies at once.

    None for a handler whose bodies cannot be decoded together. The function returns None for messages whose bodies cannot. It may
    raise any Exception, too.
    """


def compile_call(binding: Bound, *, with_context: bool = False) -> Call:
    """Compile a binding's arguments. TypeError for a type that no body or token can become, NameError for a name not defined yet.

    With `with_context` the arguments have the context even if the handler takes none: it is one more argument then, the last.
    """
    signature = binding.signature
    body, places = signature.body, {name: place for place, name in enumerate(signature.order)}
    if binding.route is not None:
        return _routed(binding, places, with_context=with_context)
    positions = dict(zip(binding.subject.names, binding.subject.positions, strict=True))
    tokens = [(name, places[name], positions[name], converter(kind)) for name, kind in signature.tokens]
    handler = _by_position(binding.handler, signature)
    taker, count = places.get(signature.context or ""), len(places)
    if taker is None and with_context:
        taker, count = count, count + 1
    if body is None:
        return Call(_binder(count, None, tokens, taker), handler, taker)
    decode, from_json = decoder(body.annotation, body.default), readers(body.annotation)[0]
    if signature.parts:
        joined = (places[body.name], _joined(decode))
        return Call(_binder(count, joined, tokens, taker), handler, taker)
    if count == 1:

        def bind_body(_subject: bytes, data: bytes, msgpack: bool, _context: Any) -> Sequence[Any]:
            return (decode(data, msgpack) if msgpack or not data else from_json(data),)

        return Call(bind_body, handler, taker, _columns(count, from_json, 0, tokens))

    def read(data: bytes, msgpack: bool) -> Any:
        return decode(data, msgpack) if msgpack or not data else from_json(data)

    columns = _columns(count, from_json, places[body.name], tokens)
    return Call(_binder(count, (places[body.name], read), tokens, taker), handler, taker, columns)


def _routed(binding: Bound, places: dict[str, int], *, with_context: bool) -> Call:
    """Compile the arguments of a function that answers HTTP requests."""
    signature = binding.signature
    body, fill = signature.body, filling(signature)
    taker, count = places.get(signature.context or ""), len(places)
    if taker is None and with_context:
        taker, count = count, count + 1
    decode = decoder(body.annotation, body.default) if body is not None else None
    place, blank = places[body.name] if body is not None else 0, [None] * count

    def bind(target: Target, data: bytes, msgpack: bool, context: Any) -> Sequence[Any]:
        arguments: list[Any] = blank.copy()
        fill(arguments, target)
        if decode is not None:
            arguments[place] = decode(data, msgpack)
        if taker is not None:
            arguments[taker] = context
        return arguments

    return Call(bind, _by_position(binding.handler, signature), taker)


def join(parts: Iterable[tuple[bool, bytes]]) -> bytes:
    """Join the parts of a split event into one body, from which `bind` makes a list; a part is (is MessagePack, body)."""
    return msgspec.msgpack.encode(list(parts))


def parted(body: bytes) -> list[tuple[bool, bytes]]:
    """The parts that `join` has made this body of."""
    return _PARTS.decode(body)


def _joined(decode: Callable[[bytes, bool], Any]) -> Callable[[bytes, bool], Any]:
    def read(data: bytes, _msgpack: bool) -> list[Any]:
        return [decode(body, msgpack) for msgpack, body in _PARTS.decode(data)]

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
        for _, at, position, convert in tokens:
            joined = b"\n".join([subject.split(b".", position + 1)[position] for subject in subjects])
            texts = joined.decode(errors="surrogateescape").split("\n")  # no subject has a line break
            made[at] = texts if convert is as_it_is else list(map(convert, texts))
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
    """The handler, made to take its arguments by position.

    Keyword-only arguments are passed on by name, and all arguments if a decorator has changed the first parameters.
    """
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
    """Whether the handler's first parameters have these names, and may be given by position. A function that it wraps does not count."""
    try:
        parameters = list(signature_of(handler, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):
        return False
    first = parameters[: len(names)]
    return [each.name for each in first] == list(names) and all(
        each.kind is each.POSITIONAL_OR_KEYWORD for each in first
    )


def _bind_tokens(arguments: list[Any], tokens: list[Token], parts: list[str]) -> None:
    for name, place, position, convert in tokens:
        try:
            arguments[place] = convert(parts[position])
        except IndexError:
            raise DecodeError(f"the subject has no token for {name!r}") from None
        except ValueError as error:
            raise DecodeError(f"token {name!r}: {raised.message(error)}") from None
