"""The table of routes: compiled once, and searched for each request.

Rule 1: of the routes that match, the one with the most precise host is taken: a whole name before a wildcard, a longer wildcard
        before a shorter one, any host last. If no route of a precise host matches, those of less precise hosts are still tried.
Rule 2: then the path decides: exact before pattern before the longest prefix. Of two patterns, the one goes first that has a
        literal where the other has a name, at the first segment in which they differ.
Rule 3: then a route that names methods goes first, then more headers, more query parameters, `order`, and the route given first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.http import hostname
from runner.core.http.backend import Publish, RequestBackend, RouteBackend
from runner.core.http.compiledroute import CompiledRoute, HeadersAndQuery
from runner.core.http.filters import Filter
from runner.core.http.path import canonical
from runner.core.http.pathtable import PathTable
from runner.core.http.route import Route
from runner.core.subject import LONGEST

Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Headers as ASGI gives them, with names in lower case."""


class Matched(Struct, frozen=True):
    """The route and the backend of a request."""

    route: Route
    backend: RouteBackend
    params: dict[str, str]
    """The tokens of the path, percent-decoded once."""
    filters: tuple[Filter, ...]
    """The filters of the route, then those of the backend."""
    subject: str
    """The subject to publish to or to ask on, with the tokens filled in; empty when the backend has no subject."""


class Unmatched(Struct, frozen=True):
    """No route takes the request."""

    status: Literal[400, 404, 405, 500]
    """400: the path or the host is malformed, or a subject cannot hold a token. 500: all backends of the route have weight 0."""
    detail: str
    """One sentence for the client."""
    allow: tuple[str, ...] = ()
    """With 405: the methods of this path."""


class _Host(Struct, frozen=True):
    """The routes of one wildcard."""

    first: PathTable
    """The routes for hosts in which the star stands for one label."""
    more: PathTable
    """The routes for hosts in which the star stands for more than one label."""


class RouteTable:
    """All routes; immutable: for another set of routes another table is made."""

    __slots__ = ("_any", "_exact", "_luck", "_wild", "routes")

    def __init__(self, routes: Iterable[Route], *, luck: Callable[[], float]) -> None:
        """`luck` gives random numbers from 0 to less than 1, as `random.random` does."""
        self.routes = tuple(routes)
        self._luck = luck
        entries = [CompiledRoute(route, number) for number, route in enumerate(self.routes)]
        by_host: dict[str, list[CompiledRoute]] = {}
        for entry in entries:
            for name in dict.fromkeys(map(hostname.declared, entry.route.hosts or ())) or ("",):
                by_host.setdefault(name, []).append(entry)
        self._any = PathTable(by_host.pop("", ()))
        self._wild = {
            name.removeprefix("*."): _Host(PathTable(own), PathTable(filter(_many_labels, own)))
            for name, own in by_host.items()
            if name.startswith("*.")
        }
        # For each host with a whole name, the wildcards that match it are found beforehand.
        self._exact = {
            name: (PathTable(own), *self._wildcards(name))
            for name, own in by_host.items()
            if not name.startswith("*.")
        }

    def match(self, method: str, host: str, path: bytes, query: bytes, headers: Pairs) -> Matched | Unmatched:
        """Find the route of a request.

        `host` is the value of `Host`, with or without a port. `path` and `query` are as they came: not decoded, without the
        question mark (`raw_path` and `query_string` of ASGI). For a preflight of CORS, `method` is the one that it asks for.
        """
        try:
            tables = self._exact.get(host)
            if tables is None:
                name = hostname.normal(host)
                tables = self._exact.get(name) or self._wildcards(name)
            found = canonical(path)
        except ValueError as error:
            return Unmatched(400, f"{error}.")
        asked: HeadersAndQuery | None = None
        for table in tables:
            for entry in table.candidates(found):
                if entry.methods and method not in entry.methods:
                    continue
                if entry.conditional:
                    asked = asked or HeadersAndQuery(query, headers)
                    if not entry.holds(asked):
                        continue
                return self._matched(entry, found)
        return _refused(tables, found, asked or HeadersAndQuery(query, headers))

    def _matched(self, entry: CompiledRoute, path: str) -> Matched | Unmatched:
        if not entry.total:
            return Unmatched(500, "No backend of this route has a weight.")
        target = entry.target(self._luck)
        params = entry.params(path)
        subject = target.subject
        backend = target.weighted.backend
        if target.rendered and isinstance(backend, (RequestBackend, Publish)):
            try:
                subject = backend.subject.render(params)
            except ValueError:
                return Unmatched(400, "A token of the path cannot be a token of a subject.")
            if len(subject) * 4 > LONGEST and len(subject.encode()) > LONGEST:
                return Unmatched(400, "The tokens of the path are too long for a subject.")
        return Matched(entry.route, backend, params, target.filters, subject)

    def _wildcards(self, host: str) -> tuple[PathTable, ...]:
        found = []
        if self._wild:
            first = True
            rest = host
            while rest:
                _, _, rest = rest.partition(".")
                if known := self._wild.get(rest):
                    found.append(known.first if first else known.more)
                first = False
        return (*found, self._any)


def _many_labels(entry: CompiledRoute) -> bool:
    return entry.route.source != "ingress"


def _refused(tables: Iterable[PathTable], path: str, asked: HeadersAndQuery) -> Unmatched:
    """Refuse with 405 if only the method is wrong, and a route of the project itself has the path; else with 404."""
    allow: set[str] = set()
    for table in tables:
        for entry in table.candidates(path):
            if entry.route.source == "own" and entry.holds(asked):
                allow |= entry.methods
    if allow:
        return Unmatched(405, "This path does not have that method.", tuple(sorted(allow)))
    return Unmatched(404, "There is nothing here.")
