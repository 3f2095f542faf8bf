"""Routes that a project declares in `[[tool.jetrunner.routes]]`: from paths to subjects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from runner.core import quantity
from runner.core.http import manifest
from runner.core.http.backend import Publish, RequestBackend
from runner.core.http.cors import Cors
from runner.core.http.manifest import Fault
from runner.core.http.route import Exact, Options, Pattern, Route, Weighted
from runner.core.subject import Template


class _Table(Struct, frozen=True, forbid_unknown_fields=True):
    """One table, as the project writes it."""

    path: str
    method: str | tuple[str, ...] = "POST"
    host: str | tuple[str, ...] = ()
    request: str | None = None
    publish: str | None = None
    timeout: str | float | None = None
    body_limit: str | int | None = None
    auth: str | tuple[str, ...] = ()
    cors: Cors | None = None
    idempotency: Literal["off", "optional", "required"] = "optional"


KEYS = _Table.__struct_fields__


def read(tables: Sequence[Any]) -> tuple[Route, ...]:
    """Read the tables; `Fault` says what is wrong, and in which table, counted from 1."""
    routes: list[Route] = []
    taken: dict[tuple[str, str, str], int] = {}
    for number, table in enumerate(tables, start=1):
        try:
            route = _route(manifest.convert(table, _Table))
            _take(route, number, taken)
        except Fault as error:
            path = table.get("path") if isinstance(table, Mapping) else None
            shown = f" ({path})" if isinstance(path, str) else ""
            raise Fault(f"route {number}{shown}: {error}") from None
        routes.append(route)
    return tuple(routes)


def _take(route: Route, number: int, taken: dict[tuple[str, str, str], int]) -> None:
    """Note the requests that a route takes; `Fault` if another takes them. Patterns that differ only in names are the same."""
    path = "/".join("{}" if segment.startswith("{") else segment for segment in route.path.path.split("/"))
    for method in route.methods:
        for host in route.hosts or ("",):
            other = taken.setdefault((method, host.lower(), path), number)
            if other != number:
                raise Fault(f"it takes the requests of route {other} already: {method} {host}{path}")


def _route(table: _Table) -> Route:
    methods, hosts, auth = _several(table.method), _several(table.host), _several(table.auth)
    if not methods:
        raise Fault("method: name one, or several")
    name = " ".join((",".join(methods), ",".join(hosts) + table.path))
    return manifest.made(
        (),
        name=f"route {name}",
        hosts=hosts,
        path=Pattern(table.path) if "{" in table.path or "}" in table.path else Exact(table.path),
        methods=methods,
        backends=(Weighted(_backend(table)),),
        options=Options(
            timeout=_timeout(table.timeout),
            body_limit=_size(table.body_limit),
            auth=auth,
            cors=table.cors,
            idempotency=_idempotency(table),
        ),
    )


def _backend(table: _Table) -> RequestBackend | Publish:
    if (table.request is None) == (table.publish is None):
        raise Fault(
            'it has either request = "…", a subject that a function answers on, or publish = "…", one of a stream'
        )
    try:
        if table.request is not None:
            return RequestBackend(Template.parse(table.request))
        return Publish(Template.parse(table.publish or ""))
    except ValueError as error:
        raise Fault(str(error)) from None


def _idempotency(table: _Table) -> Literal["off", "optional", "required"]:
    if table.request is not None and table.idempotency == "required":
        raise Fault(
            "an Idempotency-Key keeps a message from being stored twice, and request = stores none",
            ("idempotency",),
        )
    return table.idempotency


def _timeout(given: str | float | None) -> float | None:
    if given is None:
        return None
    try:
        found = quantity.seconds(given)
    except ValueError as error:
        raise Fault(str(error), ("timeout",)) from None
    if not 0 < found < math.inf:
        raise Fault("a time over 0 is expected", ("timeout",))
    return found


def _size(given: str | int | None) -> int | None:
    if given is None:
        return None
    try:
        return quantity.size(given)
    except ValueError as error:
        raise Fault(str(error), ("body_limit",)) from None


def _several(given: str | tuple[str, ...]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given
