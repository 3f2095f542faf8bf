"""A handler's signature: which parameter takes the body, which take subject tokens, which the context.

Rule 1: a parameter annotated `Context`, or `Context[State]`, takes the context; there is at most one.
Rule 2: a parameter named like a token of the subject takes that token, converted to its annotation.
Rule 3: the first other parameter takes the body; there is no second.
Rule 4: in a handler with `@route`, a keyword-only parameter that takes neither context nor token takes a query parameter.
"""

from __future__ import annotations

import collections.abc
import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias, get_origin

from msgspec import Struct

from runner.annotation import bare

Taken: TypeAlias = Literal["message", "batch", "parts", "http"]
"""What a handler is called with: one message, several of them, the parts of an event, or an HTTP request."""
Kind: TypeAlias = Literal["async", "thread", "async_generator", "thread_generator"]

EMPTY: Any = inspect.Parameter.empty
"""Stands for a missing default."""

_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence)


class Parameter(Struct, frozen=True):
    """The parameter that takes the body."""

    name: str
    annotation: Any
    """What the body is decoded to; `Any` (plain JSON) without an annotation."""
    default: Any = EMPTY
    """The value for an empty body; `EMPTY` if the parameter has no default."""


class Query(Struct, frozen=True):
    """A parameter that takes a query parameter of an HTTP request."""

    name: str
    annotation: Any
    default: Any = EMPTY
    """The value if the query does not have the parameter; `EMPTY` if it has no default."""


class Signature(Struct, frozen=True):
    """What a handler is called with."""

    body: Parameter | None = None
    tokens: tuple[tuple[str, Any], ...] = ()
    """Name and annotation of each parameter that takes a subject token."""
    context: str | None = None
    """Name of the parameter that takes the context."""
    order: tuple[str, ...] = ()
    """Names of all parameters, in the handler's order."""
    keywords: int = 0
    """How many parameters at the end of `order` are keyword-only."""
    parts: bool = False
    """Whether the body is a list of the parts of a split event; `body.annotation` is that of one part then."""
    query: tuple[Query, ...] = ()
    """Parameters that take query parameters."""


class Unbindable(ValueError):  # noqa: N818  # a finding, which becomes a BindingError with a place
    """A handler that cannot be bound; `hint` tells the next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def kind(handler: Callable[..., Any]) -> Kind:
    """How a handler runs. A plain wrapper around an async function is async, too."""
    for function in (handler, inspect.unwrap(handler)):
        if inspect.iscoroutinefunction(function):
            return "async"
        if inspect.isasyncgenfunction(function):
            return "async_generator"
        if inspect.isgeneratorfunction(function):
            return "thread_generator"
    return "thread"


def read(
    handler: Callable[..., Any],
    tokens: tuple[str, ...],
    context: type,
    namespace: Mapping[str, Any] | None = None,
    *,
    takes: Taken = "message",
) -> Signature:
    """Sort a handler's parameters; `context` is the class that marks the context, `namespace` holds local names.

    In a handler of batches, body and tokens are annotated as lists, and the annotations of their elements are kept. In a handler of
    parts that holds for the body alone. In a handler of HTTP requests, keyword-only parameters take query parameters.

    NameError when an annotation names something that is not defined (yet), `Unbindable` when a rule is broken.
    """
    batched, parts, routed = takes == "batch", takes == "parts", takes == "http"
    names = {**inspect.unwrap(handler).__globals__, **(namespace or {})}
    body: Parameter | None = None
    found: list[tuple[str, Any]] = []
    taker: str | None = None
    queries: list[Query] = []
    keywords = 0
    parameters = inspect.signature(handler).parameters
    for parameter in parameters.values():
        _require_keyword(parameter)
        keywords += parameter.kind is parameter.KEYWORD_ONLY
        name = parameter.name
        annotation = _resolved(parameter, names)
        core = bare(annotation)
        marked = get_origin(core) or core  # `Context[Shop]`
        if isinstance(marked, type) and issubclass(marked, context):
            if name in tokens:
                raise Unbindable(f"parameter {name!r} is the context, but also a token of the subject")
            if taker is not None:
                raise Unbindable(f"parameters {taker!r} and {name!r} both take the context")
            taker = name
        elif name in tokens:
            found.append((name, _element(name, annotation) if batched else annotation))
        elif routed and parameter.kind is parameter.KEYWORD_ONLY:
            queries.append(Query(name, annotation, parameter.default))
        elif body is None:
            if batched or parts:
                annotation = _element(name, annotation)
            elif not routed and (core in _LISTS or get_origin(core) in _LISTS):
                raise Unbindable(
                    f"parameter {name!r}: a list body needs batch=",
                    hint="for one message that is a list, use tuple[…, ...]",
                )
            body = Parameter(name, annotation, parameter.default)
        else:
            source = "path" if routed else "subject"
            raise Unbindable(
                f"parameter {name!r} is not a token of the {source}, and {body.name!r} takes the body already",
                hint="query parameters are keyword-only: put them behind a *"
                if routed
                else _advice(name, (*tokens, body.name)),
            )
    return Signature(body, tuple(found), taker, tuple(parameters), keywords, parts, tuple(queries))


def _element(name: str, annotation: Any) -> Any:
    """The annotation of the elements of a list that has one for each message, or for each part."""
    core = bare(annotation)
    if core in (Any, list):
        return Any
    if get_origin(core) not in _LISTS:
        raise Unbindable(
            f"parameter {name!r} takes a list, one element for each message",
            hint=f"annotate it as list[{getattr(core, '__name__', core)}]",
        )
    return typing.get_args(core)[0]


def _require_keyword(parameter: inspect.Parameter) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise Unbindable(f"parameter {parameter} takes anything; name what the handler needs")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise Unbindable(f"parameter {parameter.name!r} is positional-only; parameters are passed by name")


def _resolved(parameter: inspect.Parameter, names: dict[str, Any]) -> Any:
    if parameter.annotation is EMPTY:
        return Any
    holder: Any = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(holder, names, {}, include_extras=True)[parameter.name]
    except (NameError, AttributeError) as error:
        raise NameError(f"parameter {parameter.name!r}: {error}") from None
    except (TypeError, SyntaxError) as error:
        raise Unbindable(f"parameter {parameter.name!r}: {error}") from None


def _advice(name: str, known: tuple[str, ...]) -> str:
    if close := difflib.get_close_matches(name, known, 1):
        return f"did you mean {close[0]!r}?"
    return "annotate the context as runner.Context; what handlers share comes from a lifespan, as ctx.state"
