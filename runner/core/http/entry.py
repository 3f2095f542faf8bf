"""One route, compiled: what it asks of a request beyond host and path, and which backend gets it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any
from urllib.parse import parse_qsl

from msgspec import Struct

from runner.core.http import path, precedence
from runner.core.http.backend import Publish, Request
from runner.core.http.filters import Filter
from runner.core.http.route import Pattern, Route, Weighted


class HeadersAndQuery:
    """What a request is asked for beyond host, path and method; its query is taken apart once, and only if a route asks for it."""

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


class Target(Struct, frozen=True):
    """A backend with everything that can be known of it before a request."""

    weighted: Weighted
    filters: tuple[Filter, ...]
    subject: str
    """Without names: it is the same for all requests."""
    rendered: bool
    """Whether the names of the subject have to be filled in."""


class Entry:
    """A route as the table asks it."""

    __slots__ = (
        "_bounds", "_headers", "_positions", "_query", "_targets", "conditional", "methods", "rank", "route", "total",
    )  # fmt: skip

    def __init__(self, route: Route, number: int) -> None:
        self.route = route
        self.methods = frozenset(route.methods)
        """Empty: every method."""
        if route.source == "own" and "GET" in self.methods:
            self.methods |= {"HEAD"}
        self._headers = tuple((each.name.encode(), each.value.encode()) for each in route.headers)
        self._query = route.query
        self.conditional = bool(route.headers or route.query)
        """Whether `holds` has anything to look at."""
        self._positions = _positions(route)
        self._targets = tuple(_target(route, each) for each in route.backends)
        self._bounds = list(accumulate(each.weight for each in route.backends))
        self.total = self._bounds[-1]
        self.rank: Any = (*precedence.rank(route), number)
        """Among routes of the same host and path the smallest precedes."""

    def holds(self, asked: HeadersAndQuery) -> bool:
        """Whether the request has the headers and the query parameters of the route."""
        return all(asked.header(name) == value for name, value in self._headers) and all(
            asked.parameter(each.name) == each.value for each in self._query
        )

    def params(self, asked: str) -> dict[str, str]:
        """The tokens of a path in its one form."""
        if not self._positions:
            return {}
        segments = asked.split("/")
        return {name: path.value(segments[position]) for name, position in self._positions}

    def target(self, luck: Callable[[], float]) -> Target:
        """One of the backends, by their weights; luck is asked where there are several."""
        if len(self._targets) == 1:
            return self._targets[0]
        return self._targets[bisect_right(self._bounds, luck() * self.total)]


def _positions(route: Route) -> tuple[tuple[str, int], ...]:
    if not isinstance(route.path, Pattern):
        return ()
    segments = enumerate(path.declared(route.path.path).split("/"))
    named = [(path.name_of(segment), position) for position, segment in segments]
    return tuple((name, position) for name, position in named if name is not None)


def _target(route: Route, weighted: Weighted) -> Target:
    backend = weighted.backend
    filters = route.filters + weighted.filters
    if not isinstance(backend, (Request, Publish)):
        return Target(weighted, filters, "", rendered=False)
    return Target(weighted, filters, backend.subject.text, rendered=bool(backend.subject.names))
