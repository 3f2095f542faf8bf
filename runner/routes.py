"""`@route`: a function that answers HTTP requests; what it returns is the body of the response."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import structs

from runner import arguments, options, signature
from runner.bindings import Binding, attach, local_names, place_of
from runner.context import Context
from runner.core import httpendpoint
from runner.core.httpendpoint import HttpEndpoint
from runner.core.subject import Template
from runner.errors import BindingError
from runner.replies import ONCE
from runner.signature import Signature, Unbindable

F = TypeVar("F", bound=Callable[..., Any])

NOWHERE = "$JETRUNNER.route"
"""A binding of a route has this in place of a subject: nothing is published there, and no function's subject overlaps it."""


def route(
    method: str,
    path: str = "",
    *,
    name: str | None = None,
    host: str | None = None,
    auth: str | Sequence[str] = (),
    output: str | None = None,
    concurrency: int | None = None,
    timeout: float = 30.0,
) -> Callable[[F], F]:
    """Call a function with every HTTP request to a path, and answer with what it returns.

    `{token}` in the path names a segment; a parameter of that name takes it. Keyword-only parameters take query parameters: one
    with a default may be missing, one that is annotated as a list may be repeated. The first other parameter takes the body. The
    returned value is the response's body, with status 200; for None there is no body, and the status is 204. With `output` the
    value is published there instead, and the response is 202 once the stream has it; tokens in `output` are those of the path. A
    generator without `output` sends each item at once, as a server-sent event. `host` is a name as `example.com` or
    `*.example.com`; by default requests to every host are meant. `auth` names authentications of the settings, one of which has to
    accept the client; without it everybody may ask. `timeout` is in seconds; between server-sent events it limits the wait for
    the next one. `concurrency` is 64, or min(32, cores + 4) for a `def` handler. The function runs in the gateway: in
    `runner gateway`, `runner run --http` and `runner dev`. BindingError when something is wrong, at import.
    """
    if callable(method) or not path:
        file, line = place_of(method, inspect.currentframe())
        raise BindingError(
            "route needs a method and a path",
            file=file,
            line=line,
            hint='write @route("GET", "/orders/{id}")',
        )

    def decorate(function: F) -> F:
        file, line = place_of(function, inspect.currentframe())
        namespace = local_names(inspect.currentframe())

        def complete() -> Binding:
            label = options.label(name, function)
            asked = structs.replace(_routed(method, path, host), auth=_auth(auth))
            source = Template(asked.text, NOWHERE, asked.names, tuple(range(len(asked.names))))
            kind = signature.kind(function)
            binding = Binding(
                function=label,
                subject=source,
                output=None if output is None else options.output(output, source),
                retry=ONCE,
                concurrency=options.concurrency(concurrency, threaded=kind.startswith("thread")),
                timeout=options.seconds("timeout", timeout),
                deliver="new",
                handler=function,
                signature=_signature(function, asked, namespace),
                file=file,
                line=line,
                kind=kind,
                label=label,
                route=asked,
            )
            arguments.compile_call(binding)
            return binding

        return attach(function, complete, file, line)

    return decorate


def _routed(method: Any, path: str, host: Any) -> HttpEndpoint:
    for what, given in (("the method", method), ("host=", host)):
        if given is not None and not isinstance(given, str):
            raise Unbindable(f"{what} is a string, not {given!r}")
    try:
        return httpendpoint.read(method, path, host)
    except ValueError as error:
        upper = method.upper()
        hint = f'write "{upper}"' if method != upper and upper in httpendpoint.METHODS else ""
        raise Unbindable(str(error), hint=hint) from None


def _auth(given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not all(isinstance(each, str) and each for each in names):
        raise Unbindable(
            f"auth= names authentications of the settings, not {given!r}",
            hint='write auth="staff" for [tool.jetrunner.auth.staff]',
        )
    return tuple(names)


def _signature(function: Callable[..., Any], asked: HttpEndpoint, namespace: dict[str, Any]) -> Signature:
    found = signature.read(function, asked.names, Context, namespace, takes="http")
    if found.body is not None and asked.method in httpendpoint.BODILESS:
        raise Unbindable(
            f"parameter {found.body.name!r} would take the body, and a {asked.method} has none",
            hint="query parameters are keyword-only: put it behind a *",
        )
    return found
