"""The target of an HTTP request: tokens of its path and its query, converted to the annotations of a handler's parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from runner.annotation import bare
from runner.codec import DecodeError
from runner.core import raised
from runner.core.httpendpoint import HttpEndpoint
from runner.signature import EMPTY, Signature
from runner.tokens import converter

MOST_FIELDS = 200
"""Fields that a query may have."""

_SEVERAL = {list: list, tuple: tuple, Sequence: list, set: set, frozenset: frozenset}


class Unprocessable(DecodeError):  # noqa: N818  # named by what is wrong
    """A token or a query parameter is missing, or cannot be converted; the text names it."""

    code = 422


class Target(Struct, frozen=True):
    """The parts of a request's target that a handler may take."""

    params: Mapping[str, str]
    """Tokens of the path, percent-decoded."""
    query: bytes
    """The query as it came, percent-encoded."""


def target_of(route: HttpEndpoint, text: str) -> Target | None:
    """The target in a text as `METHOD /path?query`, or without the method; None if the route does not match."""
    method, _, target = text.rpartition(" ")
    if method and method != route.method:
        return None
    path, _, query = target.partition("?")
    found = route.params(path)
    if found is None:
        return None
    return Target({name: unquote(value) for name, value in found.items()}, query.encode())


def filling(signature: Signature) -> Callable[[list[Any], Target], None]:
    """Compile a function that puts tokens and query parameters in their places among the arguments; it raises `Unprocessable`.

    TypeError when no text can be converted to an annotation.
    """
    places = {name: place for place, name in enumerate(signature.order)}
    tokens = [(name, places[name], converter(kind)) for name, kind in signature.tokens]
    queries = [(each, places[each.name], *_converter(each.annotation)) for each in signature.query]

    def fill(arguments: list[Any], target: Target) -> None:
        for name, place, convert in tokens:
            try:
                arguments[place] = convert(target.params[name])
            except ValueError as error:
                raise Unprocessable(f"{name!r} in the path: {raised.message(error)}") from None
        if not queries:
            return
        given = _fields(target.query)
        for query, place, several, convert in queries:
            values = given.get(query.name)
            if values is None:
                if query.default is EMPTY:
                    raise Unprocessable(f"query parameter {query.name!r} is missing")
                arguments[place] = query.default
                continue
            if several is None and len(values) > 1:
                raise Unprocessable(f"query parameter {query.name!r} stands there {len(values)} times")
            try:
                arguments[place] = several(map(convert, values)) if several else convert(values[0])
            except ValueError as error:
                raise Unprocessable(f"query parameter {query.name!r}: {raised.message(error)}") from None

    return fill


def _fields(query: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if not query:
        return found
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except UnicodeError:
        raise Unprocessable("the query is not UTF-8, percent-encoded") from None
    except ValueError:
        raise Unprocessable(f"the query has more than {MOST_FIELDS} fields") from None
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _converter(annotation: Any) -> tuple[Callable[[Any], Any] | None, Callable[[str], Any]]:
    """The type that collects several values (None if the parameter takes one value), and the function that converts each."""
    core = bare(annotation)
    kind = get_origin(core) or core
    if kind not in _SEVERAL:
        return None, converter(annotation)
    parts = [each for each in get_args(core) if each is not Ellipsis]
    if len(parts) > 1:
        raise TypeError("a query parameter with several values is annotated as list[…] or tuple[…, ...]")
    return _SEVERAL[kind], converter(parts[0] if parts else Any)
