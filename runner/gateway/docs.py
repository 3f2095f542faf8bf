"""Documents of an edge, as routes of their own: a page to read and try the routes, and OpenAPI."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runner.config import Settings
from runner.core.http.backend import Static
from runner.core.http.route import Exact, Route, Weighted
from runner.discovery import Project
from runner.schemas import openapi, tryout

PAGE, DOCUMENT = "/docs", "/openapi.json"
_JSON = ((b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff"))


def with_docs(project: Project, routes: Sequence[Route], settings: Settings) -> Sequence[Route]:
    """The declared routes, and those of the documents if the settings want them; the project's own routes have precedence."""
    if not settings.http_docs:
        return routes
    document = openapi.document(project, routes, settings.auth)
    page = tryout.page(document)
    return (
        *routes,
        _route(PAGE, Static(page.body, page.headers)),
        _route(DOCUMENT, Static(msgspec.json.encode(document), _JSON)),
    )


def _route(path: str, backend: Static) -> Route:
    return Route(
        name=f"docs {path}",
        path=Exact(path),
        methods=("GET",),
        backends=(Weighted(backend),),
        order=(float("inf"), ""),
    )
