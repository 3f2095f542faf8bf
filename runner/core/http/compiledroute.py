"""One route, compiled: its conditions on headers and query, and the choice of its backend."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any
from urllib.parse import parse_qsl

from msgspec import Struct

from runner.core.http import path, precedence
from runner.core.http.backend import Publish, RequestBackend
from runner.core.http.filters import Filter
from runner.core.http.route import Pattern, Route, Weighted


class HeadersAndQuery:
    """Headers and query of one request; the query is parsed once, and only if a route has a condition on it."""

    __slots__ = ("_parameters", "_query", "headers")

    def __init__(self, query: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.headers = headers
        self._query = query
        self._parameters: dict[str, str] | None = None

    def header(self, name: bytes) -> bytes | None:
        """All values of a header, joined by commas; None without one."""
        values = [value for key, value in self.headers if key == name]
        return b",".join(values) if values else None

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter; None without one."""
        if self._parameters is None:
            pairs = parse_qsl(self._query.decode("latin-1"), keep_blank_values=True)
            self._parameters = dict(reversed(pairs))
        return self._parameters.get(name)


class CompiledBackend(Struct, frozen=True):
    """A backend with all that can be computed before a request comes."""

    weighted: Weighted
    filters: tuple[Filter, ...]
    subject: str
    """The backend's subject; without names it is the same for all requests. Empty: the backend has none."""
    rendered: bool
    """Whether the names of the subject have to be filled in."""


class CompiledRoute:
    """A route as the table uses it."""

    __slots__ = (
        "_bounds", "_headers", "_positions", "_query", "_targets", "conditional", "methods", "rank", "route", "total",
    )  # fmt: skip

    def __init__(self, route: Route, number: int) -> None:
        self.route = route
        self.methods = frozenset(route.methods)
        """The methods of the route; empty: every method."""
        if route.source == "own" and "GET" in self.methods:
            self.methods |= {"HEAD"}
        self._headers = tuple((each.name.encode(), each.value.encode()) for each in route.headers)
        self._query = route.query
        self.conditional = bool(route.headers or route.query)
        """Whether the route has conditions for `holds` to check."""
        self._positions = _positions(route)
        self._targets = tuple(_target(route, each) for each in route.backends)
        self._bounds = list(accumulate(each.weight for each in route.backends))
        self.total = self._bounds[-1]
        self.rank: Any = (*precedence.rank(route), number)
        """Of the routes with the same host and path, the one with the smallest rank goes first."""

    def holds(self, asked: HeadersAndQuery) -> bool:
        """Whether the request has the headers and the query parameters of the route."""
        return all(asked.header(name) == value for name, value in self._headers) and all(
            asked.parameter(each.name) == each.value for each in self._query
        )

    def params(self, asked: str) -> dict[str, str]:
        """The tokens in a path of canonical form."""
        if not self._positions:
            return {}
        segments = asked.split("/")
        return {name: path.value(segments[position]) for name, position in self._positions}

    def target(self, luck: Callable[[], float]) -> CompiledBackend:
        """Choose one of the backends by their weights; `luck`, a random number, is used only if there are several."""
        if len(self._targets) == 1:
            return self._targets[0]
        return self._targets[bisect_right(self._bounds, luck() * self.total)]


def _positions(route: Route) -> tuple[tuple[str, int], ...]:
    if not isinstance(route.path, Pattern):
        return ()
    segments = enumerate(path.declared(route.path.path).split("/"))
    named = [(path.name_of(segment), position) for position, segment in segments]
    return tuple((name, position) for name, position in named if name is not None)


def _target(route: Route, weighted: Weighted) -> CompiledBackend:
    backend = weighted.backend
    filters = route.filters + weighted.filters
    if not isinstance(backend, (RequestBackend, Publish)):
        return CompiledBackend(weighted, filters, "", rendered=False)
    return CompiledBackend(weighted, filters, backend.subject.text, rendered=bool(backend.subject.names))
