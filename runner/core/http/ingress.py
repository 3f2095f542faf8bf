"""An Ingress (`networking.k8s.io/v1`), read into routes.

Rule 1: a rule's host is a whole name, or has a wildcard for one label; a rule without a host is for every host. Of its paths the
        longest is taken, then `Exact` before `Prefix`. The table's own order gives the same, because a whole path is the longest.
Rule 2: `ImplementationSpecific` means `Prefix`, as with most controllers.
Rule 3: `defaultBackend` takes the requests for all hosts that no rule of any manifest takes.
Rule 4: classes, ports and namespaces are ignored: the file was given by hand, and a service is a function.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct

from runner.core.http import manifest
from runner.core.http.backend import RouteBackend
from runner.core.http.manifest import DocumentPlace, Fault, Metadata, ReadManifest, ServiceBackends
from runner.core.http.route import Exact, Path, Prefix, Weighted

API = "networking.k8s.io/v1"
KIND = "Ingress"

UNANSWERED = 503
"""The status when nobody answers for a service, as with other controllers."""


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


def read(document: Any, services: ServiceBackends) -> ReadManifest:
    """Read a manifest; `Fault` says what is wrong with it, and where."""
    found = manifest.convert(document, _Ingress)
    return _Ingresses(found, services).read()


class _Ingresses:
    """The rules of one Ingress, read into routes."""

    def __init__(self, ingress: _Ingress, services: ServiceBackends) -> None:
        self.spec = ingress.spec
        self.found = manifest.ManifestReading("ingress", ingress.metadata, services, UNANSWERED)

    def read(self) -> ReadManifest:
        spec = self.spec
        if spec.tls:
            self.found.remarks.append("tls: its secrets are not read here; end TLS in front of the gateway")
        if not spec.rules and spec.default_backend is None:
            raise Fault("it has neither rules nor a defaultBackend", ("spec",))
        for number, rule in enumerate(spec.rules):
            self._rule(rule, ("spec", "rules", number))
        if spec.default_backend is not None:
            place = ("spec", "defaultBackend")
            self._add(place, None, Prefix("/"), spec.default_backend, math.inf)
        return self.found.done()

    def _rule(self, rule: _Rule, place: DocumentPlace) -> None:
        if rule.http is None:
            return  # its requests go to the default backend, like those for other hosts
        for number, each in enumerate(rule.http.paths):
            inside = (*place, "http", "paths", number)
            self._add(inside, rule.host, _path(each, inside), each.backend, self.found.metadata.created)

    def _add(
        self, place: DocumentPlace, host: str | None, path: Path, backend: _Backend, created: float
    ) -> None:
        self.found.add(
            place,
            place,
            created,
            hosts=(host,) if host else (),
            path=path,
            backends=(Weighted(self._backend(backend, place)),),
        )

    def _backend(self, backend: _Backend, place: DocumentPlace) -> RouteBackend:
        if (backend.service is None) == (backend.resource is None):
            raise Fault("a backend is a service or a resource", place)
        if backend.service is None:
            self.found.remarks.append(
                f"backends that are resources are not known here; requests get {UNANSWERED}"
            )
            return self.found.unanswered("What is behind this path is not here.")
        return self.found.service(backend.service.name)


def _path(each: _Path, place: DocumentPlace) -> Path:
    if each.path_type not in ("Exact", "Prefix", "ImplementationSpecific"):
        raise Fault(
            f"{each.path_type!r} is not Exact, Prefix or ImplementationSpecific", (*place, "pathType")
        )
    if each.path is None and each.path_type != "ImplementationSpecific":
        raise Fault(f"{each.path_type} needs a path", place)
    text = manifest.path(each.path, (*place, "path"))
    return Exact(text) if each.path_type == "Exact" else Prefix(text)
