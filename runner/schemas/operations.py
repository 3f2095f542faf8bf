"""The operations of an HTTP edge: each is one method of one path, and names the function whose types it reads and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from runner.bindings import Binding
from runner.core.http.backend import Fixed, FunctionBackend, Publish, Redirect, RequestBackend, RouteBackend
from runner.core.http.route import Prefix, Route
from runner.core.subject import covers
from runner.discovery import Project

_UNFIT = re.compile(r"\W+")

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""The HTTP methods that OpenAPI knows."""


class Operation(Struct, frozen=True):
    """One method of one path."""

    method: str
    path: str
    hosts: tuple[str, ...]
    auth: tuple[str, ...]
    reader: Binding | None
    """The function whose types the operation reads and answers; None if no function of the project gets its requests."""
    stores: bool
    """Whether the answer is 202, sent once a stream has stored the request or the function's output."""
    name: str
    note: str = ""
    """Sentences on what method and path cannot express: a prefix, all methods, conditions on headers and the query."""
    idempotency: str = "optional"
    moved: Redirect | None = None
    subject_names: tuple[str, ...] = ()
    """The tokens of the path that become tokens of a subject."""


def operations(project: Project, routes: Iterable[Route]) -> tuple[Operation, ...]:
    """The operations of a project's functions, then those of declared routes; the first one for a method of a path is kept."""
    found = _Operations(project)
    found.of_functions()
    for route in routes:
        found.of_route(route)
    return tuple(found.found.values())


class _Operations:
    """Makes operations of functions and routes, and keeps the first one for a method of a path."""

    def __init__(self, project: Project) -> None:
        self.functions = project.functions
        self.found: dict[tuple[str, str], Operation] = {}

    def of_functions(self) -> None:
        for binding in self.functions:
            if binding.route is not None:
                hosts = (binding.route.host,) if binding.route.host else ()
                self._add(
                    Operation(
                        binding.route.method.lower(), binding.route.path, hosts, binding.route.auth, binding,
                        binding.output is not None, binding.function,
                        subject_names=binding.output.names if binding.output is not None else (),
                    )
                )  # fmt: skip

    def of_route(self, route: Route) -> None:
        chosen = next(
            (each.backend for each in route.backends if each.weight and not isinstance(each.backend, Fixed)),
            None,
        )
        if chosen is None:
            return  # every request to this route gets a fixed answer, which is an error
        reader = self._reader(chosen)
        path = route.path.path.rstrip("/") or "/" if isinstance(route.path, Prefix) else route.path.path
        methods = tuple(map(str.lower, route.methods)) or ("post",)
        for method in methods:
            words = [reader.function, *([method] if len(methods) > 1 else [])] if reader else [method, path]
            self._add(
                Operation(
                    method, path, route.hosts, route.options.auth, reader, isinstance(chosen, Publish), _UNFIT.sub("_", "/".join(words)).strip("_"),
                    _note(route), route.options.idempotency, chosen if isinstance(chosen, Redirect) else None,
                    chosen.subject.names if isinstance(chosen, RequestBackend | Publish) else (),
                )
            )  # fmt: skip

    def _add(self, operation: Operation) -> None:
        if operation.method in METHODS:
            self.found.setdefault((operation.path, operation.method), operation)

    def _reader(self, backend: RouteBackend) -> Binding | None:
        """The function of the project that gets the requests, or the messages, of a backend."""
        match backend:
            case FunctionBackend():
                return next((each for each in self.functions if each.function == backend.function), None)
            case RequestBackend():
                found = [each for each in self.functions if each.answers is not None]
            case Publish():
                found = [each for each in self.functions if each.reads_stream and each.joins is None]
            case _:
                return None
        reading = [each for each in found if covers(each.subject.wildcard, backend.subject.wildcard)]
        return reading[0] if reading else None


def _note(route: Route) -> str:
    notes = []
    if isinstance(route.path, Prefix):
        notes.append("Takes every path below it as well.")
    if not route.methods:
        notes.append("Takes every method.")
    conditions = [f"the header {each.name}: {each.value}" for each in route.headers]
    conditions += [f"the query parameter {each.name}={each.value}" for each in route.query]
    if conditions:
        notes.append(f"Needs {', '.join(conditions)}.")
    return " ".join(notes)
