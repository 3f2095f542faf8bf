"""The table of routes: compiled once, asked for each request.

Rule 1: of the routes that match, the one with the most precise host is taken: a whole name before a wildcard, a longer wildcard
        before a shorter, any host last. A precise host none of whose routes match hides nothing.
Rule 2: then by path: exact before pattern before the longest prefix. Of two patterns the one that has a literal
        where the other has a name, at the first segment in which they differ.
Rule 3: then a route that names methods, then more headers, then more query parameters, then `order`, then the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.http.backend import Backend
from runner.core.http.filters import Filter
from runner.core.http.route import Route

Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Headers as ASGI has them: names in lower case."""


class Matched(Struct, frozen=True):
    """Where a request goes."""

    route: Route
    backend: Backend
    params: dict[str, str]
    """Tokens of the path, percent-decoded once."""
    filters: tuple[Filter, ...]
    """Of the route, then of the backend."""
    subject: str
    """What to publish to or to ask, with the tokens filled in; empty where the backend has no subject."""


class Refused(Struct, frozen=True):
    """No route takes the request."""

    status: Literal[400, 404, 405, 500]
    """400: no path, no host, or a token that a subject cannot hold. 500: all backends of the route weigh 0."""
    detail: str
    """One sentence for the client."""
    allow: tuple[str, ...] = ()
    """With 405: the methods that this path has."""


class RouteTable:
    """All routes. Immutable: another set of routes is another table."""

    def __init__(self, routes: Iterable[Route], *, luck: Callable[[], float]) -> None:
        """`luck` gives numbers from 0 to less than 1, as `random.random` does; ValueError names the route that is none."""
        self.routes = tuple(routes)
        self._luck = luck

    def match(self, method: str, host: str, path: bytes, query: bytes, headers: Pairs) -> Matched | Refused:
        """Find the route of a request.

        `host` is the value of `Host`, with or without a port. `path` and `query` are as they came: not decoded, without the
        question mark (`raw_path` and `query_string` of ASGI). A preflight of CORS is matched as the method that it asks for.
        """
        raise NotImplementedError
