"""The operations of an HTTP edge: a method of a path each, and whose types are read and answered there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from runner.bindings import Binding
from runner.core.http.backend import Backend, Call, Fixed, Publish, Redirect, Request
from runner.core.http.route import Prefix, Route
from runner.core.subject import covers
from runner.discovery import Project

_UNFIT = re.compile(r"\W+")

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""Those that OpenAPI knows."""


class Operation(Struct, frozen=True):
    """One method of one path."""

    method: str
    path: str
    hosts: tuple[str, ...]
    auth: tuple[str, ...]
    reader: Binding | None
    """Whose types they are; None where nobody's of the project are known."""
    stores: bool
    """Whether the answer is 202, once a stream has it."""
    name: str
    note: str = ""
    """What the path cannot say."""
    idempotency: str = "optional"
    moved: Redirect | None = None
    subject_names: tuple[str, ...] = ()
    """Tokens of the path that become tokens of a subject."""


def operations(project: Project, routes: Iterable[Route]) -> tuple[Operation, ...]:
    """Those of a project's functions, then those of routes that are declared besides; of two for the same the first."""
    found = _Operations(project)
    found.of_functions()
    for route in routes:
        found.of_route(route)
    return tuple(found.found.values())


class _Operations:
    """Functions and routes become operations; the first one of a path and a method is told."""

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
            return  # its answer is an error, whoever asks
        reader = self._reader(chosen)
        path = route.path.path.rstrip("/") or "/" if isinstance(route.path, Prefix) else route.path.path
        methods = tuple(map(str.lower, route.methods)) or ("post",)
        for method in methods:
            words = [reader.function, *([method] if len(methods) > 1 else [])] if reader else [method, path]
            self._add(
                Operation(
                    method, path, route.hosts, route.options.auth, reader, isinstance(chosen, Publish), _UNFIT.sub("_", "/".join(words)).strip("_"),
                    _note(route), route.options.idempotency, chosen if isinstance(chosen, Redirect) else None,
                    chosen.subject.names if isinstance(chosen, Request | Publish) else (),
                )
            )  # fmt: skip

    def _add(self, operation: Operation) -> None:
        if operation.method in METHODS:
            self.found.setdefault((operation.path, operation.method), operation)

    def _reader(self, backend: Backend) -> Binding | None:
        """The function of the project that gets what is sent there."""
        match backend:
            case Call():
                return next((each for each in self.functions if each.function == backend.function), None)
            case Request():
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
