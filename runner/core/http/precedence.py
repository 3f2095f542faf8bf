"""Which of two routes for the same host and path is taken, and which is never.

Rule 1: a route that names methods before one that takes them all, then more headers, then more query parameters.
Rule 2: then `@route` and declared routes, then an HTTPRoute, then an Ingress: who puts an HTTPRoute beside an Ingress means to divide its requests.
Rule 3: then the older one, then the first `namespace/name`, then the one that was given first. What takes all that is left over comes last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runner.core.http import path
from runner.core.http.route import Route, Source

_SOURCES: dict[Source, int] = {"own": 0, "httproute": 1, "ingress": 2}


def rank(route: Route) -> Any:
    """Among routes of the same host and path the smallest precedes."""
    source = _SOURCES[route.source] if route.order[0] < math.inf else len(_SOURCES)
    return not route.methods, -len(route.headers), -len(route.query), source, route.order


def shadowed(routes: Sequence[Route]) -> list[str]:
    """Tell of manifests a path of which another route takes: a sentence each."""
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
