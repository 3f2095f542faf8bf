"""An Ingress (`networking.k8s.io/v1`) as routes.

Rule 1: a rule's host is whole, or a wildcard of one label; without one it is every host. Of its paths the longest is taken,
        then `Exact` before `Prefix`: the table's own order comes to the same, as a path that is matched whole is the longest.
Rule 2: `ImplementationSpecific` is `Prefix`, as most controllers have it.
Rule 3: `defaultBackend` takes what no rule of any manifest takes, of all hosts.
Rule 4: classes, ports and namespaces say nothing here: the file was given by hand, and a service is a function.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct

from runner.core.http import manifest
from runner.core.http.backend import Backend, Fixed
from runner.core.http.manifest import Fault, Metadata, Read, Services
from runner.core.http.route import Exact, Options, Path, Prefix, Route, Weighted

API = "networking.k8s.io/v1"
KIND = "Ingress"

UNANSWERED = 503
"""The status where nobody answers for a service, as controllers have it."""


class _Service(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    port: Any = None


class _Backend(Struct, frozen=True, forbid_unknown_fields=True):
    service: _Service | None = None
    resource: Any = None


class _Path(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    path_type: str
    backend: _Backend
    path: str | None = None


class _Http(Struct, frozen=True, forbid_unknown_fields=True):
    paths: tuple[_Path, ...]


class _Rule(Struct, frozen=True, forbid_unknown_fields=True):
    host: str | None = None
    http: _Http | None = None


class _Spec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    ingress_class_name: str | None = None
    default_backend: _Backend | None = None
    tls: tuple[Any, ...] = ()
    rules: tuple[_Rule, ...] = ()


class _Ingress(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    api_version: str
    kind: str
    metadata: Metadata
    spec: _Spec
    status: Any = None


def read(document: Any, services: Services) -> Read:
    """Read a manifest; `Fault` says where it is none."""
    found = manifest.convert(document, _Ingress)
    return _Reading(found, services).read()


class _Reading:
    """One manifest on its way."""

    def __init__(self, ingress: _Ingress, services: Services) -> None:
        self.ingress = ingress
        self.services = services
        self.routes: list[Route] = []
        self.remarks: list[str] = []
        self.options = Options()

    def read(self) -> Read:
        spec = self.ingress.spec
        self.options, self.remarks = manifest.options(self.ingress.metadata.annotations)
        if spec.tls:
            self.remarks.append("tls: its secrets are not read here; end TLS in front of the gateway")
        if not spec.rules and spec.default_backend is None:
            raise Fault("it has neither rules nor a defaultBackend", ("spec",))
        for number, rule in enumerate(spec.rules):
            self._rule(rule, ("spec", "rules", number))
        if spec.default_backend is not None:
            place = ("spec", "defaultBackend")
            self._add(place, None, Prefix("/"), spec.default_backend, math.inf)
        return Read(self.ingress.metadata.label, tuple(self.routes), tuple(dict.fromkeys(self.remarks)))

    def _rule(self, rule: _Rule, place: tuple[str | int, ...]) -> None:
        if rule.http is None:
            return  # its requests go to the default backend, as those of every other host
        for number, each in enumerate(rule.http.paths):
            inside = (*place, "http", "paths", number)
            self._add(inside, rule.host, _path(each, inside), each.backend, self.ingress.metadata.created)

    def _add(
        self, place: tuple[str | int, ...], host: str | None, path: Path, backend: _Backend, created: float
    ) -> None:
        label = self.ingress.metadata.label
        given = (Weighted(self._backend(backend, place)),)
        backends, methods, options, remarks = manifest.called(given, (), self.options, UNANSWERED)
        self.remarks.extend(remarks)
        route = manifest.made(
            place,
            name=f"ingress {label}",
            source="ingress",
            hosts=(host,) if host else (),
            path=path,
            methods=methods,
            backends=backends,
            options=options,
            order=(created, label),
        )
        self.routes.append(route)

    def _backend(self, backend: _Backend, place: tuple[str | int, ...]) -> Backend:
        if (backend.service is None) == (backend.resource is None):
            raise Fault("a backend is a service or a resource", place)
        if backend.service is None:
            self.remarks.append(f"backends that are resources are not known here; requests get {UNANSWERED}")
            return Fixed(UNANSWERED, "What is behind this path is not here.")
        found, remark = manifest.service(backend.service.name, self.services, UNANSWERED)
        if remark:
            self.remarks.append(remark)
        return found


def _path(each: _Path, place: tuple[str | int, ...]) -> Path:
    if each.path_type not in ("Exact", "Prefix", "ImplementationSpecific"):
        raise Fault(
            f"{each.path_type!r} is not Exact, Prefix or ImplementationSpecific", (*place, "pathType")
        )
    if each.path is None and each.path_type != "ImplementationSpecific":
        raise Fault(f"{each.path_type} needs a path", place)
    text = manifest.path(each.path, (*place, "path"))
    return Exact(text) if each.path_type == "Exact" else Prefix(text)
