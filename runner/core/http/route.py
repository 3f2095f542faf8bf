"""Routes: which requests take them, and where they lead. A route is one match: a rule with two matches becomes two routes."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.http import hostname, path
from runner.core.http.backend import Publish, RequestBackend, RouteBackend
from runner.core.http.cors import Cors
from runner.core.http.filters import Filter
from runner.core.subject import is_reserved


class Exact(Struct, frozen=True):
    """A whole path, with the slash at its end if it has one."""

    path: str


class Prefix(Struct, frozen=True):
    """All paths that begin with these segments: `/a` stands for `/a`, `/a/` and `/a/b`, never for `/ab`."""

    path: str


class Pattern(Struct, frozen=True):
    """A path whose segments may be `{named}`: each stands for one segment that is not empty."""

    path: str


HEAVIEST = 1_000_000
"""The largest weight: that of the Gateway API."""

_METHOD = re.compile(r"[A-Z]+(?:-[A-Z]+)*")

Path: TypeAlias = Exact | Prefix | Pattern

RouteSource: TypeAlias = Literal["own", "ingress", "httproute"]
"""Where a route is declared: `own` are `@route` functions and `[[tool.jetrunner.routes]]`.

Under `ingress` the `*` of a host is one label; elsewhere it is one or more. A request with another method gets 405 from an
`own` route, and 404 from the others, as their specification says. An `own` route with GET takes HEAD as well.
"""


class Condition(Struct, frozen=True):
    """A header or a query parameter that a request must have with this value."""

    name: str
    """The name; that of a header is in lower case."""
    value: str


class Weighted(Struct, frozen=True):
    """One of the backends among which a route divides its requests."""

    backend: RouteBackend
    weight: int = 1
    """The backend's share is this part of the sum of all weights; 0: no requests. If the sum is 0, the answer is 500."""
    filters: tuple[Filter, ...] = ()
    """The backend's filters, applied after those of the route."""


class Options(Struct, frozen=True, kw_only=True):
    """Options of a route's requests; None: the gateway's own value."""

    timeout: float | None = None
    """Seconds after which the answer is 504."""
    body_limit: int | None = None
    """Most bytes of a body; a larger one gets 413."""
    auth: tuple[str, ...] = ()
    """Names of declared authentications; one of them must accept the caller. Empty: everybody may ask."""
    cors: Cors | None = None
    idempotency: Literal["off", "optional", "required"] = "optional"
    """Whether an `Idempotency-Key` counts, if the backend is a stream: never, when it is sent, or it must be sent."""


class Route(Struct, frozen=True, kw_only=True):
    """One way from a request to backends."""

    name: str
    """The name in logs, spans and metrics: `function quote`, `ingress shop/two-services`, `route GET /orders/{id}`."""
    source: RouteSource = "own"
    hosts: tuple[str, ...] = ()
    """Hosts such as `example.com` or `*.example.com`; empty: every host."""
    path: Path = Prefix("/")
    methods: tuple[str, ...] = ()
    """Methods in upper case; empty: every method."""
    headers: tuple[Condition, ...] = ()
    query: tuple[Condition, ...] = ()
    backends: tuple[Weighted, ...]
    """At least one."""
    filters: tuple[Filter, ...] = ()
    options: Options = Options()
    order: tuple[float, str] = (0.0, "")
    """Of routes that are otherwise equal, the one with the smaller order is taken, then the one that was given first.

    For the route of a manifest: when the manifest was created, and its `namespace/name`.
    """

    def __post_init__(self) -> None:
        """ValueError says in one sentence what is wrong with the route."""
        for host in self.hosts:
            hostname.declared(host)
        try:
            canonical = path.declared(self.path.path)
            names = path.names(canonical) if isinstance(self.path, Pattern) else ()
        except ValueError as error:
            raise ValueError(f"path {self.path.path!r}: {error}") from None
        if wrong := [method for method in self.methods if not _METHOD.fullmatch(method)]:
            raise ValueError(f"method {wrong[0]!r} is not a word in capitals, as GET")
        if not self.backends:
            raise ValueError("it leads nowhere")
        for each in self.backends:
            if not 0 <= each.weight <= HEAVIEST:
                raise ValueError(f"weight {each.weight} is not from 0 to {HEAVIEST:,}")
            if isinstance(each.backend, (RequestBackend, Publish)):
                _check_subject(each.backend, names)


def _check_subject(backend: RequestBackend | Publish, names: tuple[str, ...]) -> None:
    subject = backend.subject
    if unknown := [name for name in subject.names if name not in names]:
        raise ValueError(f"subject {subject.text!r}: {{{unknown[0]}}} is not a token of the path")
    if not subject.renderable:
        raise ValueError(f"subject {subject.text!r}: a bare wildcard cannot be filled in")
    # Else a client could choose the first token, and with it $JS or another internal subject.
    if subject.text.startswith("{") or is_reserved(subject.text):
        raise ValueError(f"subject {subject.text!r}: it has to begin with a token of your own")
