"""Precedence: which of several routes for the same host and path is taken, and which routes are never taken.

Rule 1: a route that names methods goes before one for all methods; then the route with more headers, then with more query parameters.
Rule 2: then `@route` and declared routes go before an HTTPRoute, and an HTTPRoute before an Ingress: who puts an HTTPRoute beside
        an Ingress means to divide the requests of the Ingress.
Rule 3: then the older route, then the first by `namespace/name`, then the one that was given first. A `defaultBackend` comes last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runner.core.http import path
from runner.core.http.route import Route, RouteSource

_SOURCES: dict[RouteSource, int] = {"own": 0, "httproute": 1, "ingress": 2}


def rank(route: Route) -> Any:
    """Of the routes with the same host and path, the one with the smallest rank goes first."""
    source = _SOURCES[route.source] if route.order[0] < math.inf else len(_SOURCES)
    return not route.methods, -len(route.headers), -len(route.query), source, route.order


def shadowed(routes: Sequence[Route]) -> list[str]:
    """Find the paths of manifests that take no requests because another route goes first: a sentence each."""
    found: list[str] = []
    first: dict[Any, Route] = {}
    for route in sorted(routes, key=rank):
        for host in route.hosts or ("",):
            asked = (
                host.lower(), type(route.path), path.declared(route.path.path).rstrip("/") or "/",
                tuple(sorted(route.methods)), route.headers, route.query,
            )  # fmt: skip
            other = first.setdefault(asked, route)
            if other is not route and route.source != "own":
                where = f"{host}{route.path.path}"
                found.append(
                    f"{route.name}: its path {where} takes no requests: {other.name} has it, and precedes"
                )
    return found
