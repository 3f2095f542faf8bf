"""Files of routes: Ingress and HTTPRoute manifests in YAML or JSON, several documents to a file, several files to a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner.bindings import Binding
from runner.core.http import httproute, ingress
from runner.core.http.backend import FunctionBackend, RequestBackend, RouteBackend
from runner.core.http.manifest import Fault, ReadManifest, ServiceBackends, written
from runner.core.http.route import Route
from runner.core.quantity import counted
from runner.errors import JetrunnerError, RouteFileError, several
from runner.gateway import yamlfile
from runner.gateway.yamlfile import Document

SUFFIXES = (".yaml", ".yml", ".json")
LISTS = ("List", "IngressList", "HTTPRouteList")


class DeclaredRoutes(Struct, frozen=True):
    """The routes of all files."""

    routes: tuple[Route, ...]
    remarks: tuple[str, ...]
    """One sentence for each part that cannot be honoured, with file, line and name."""
    files: tuple[Path, ...]
    """The files that were read."""


def read(paths: Sequence[Path], services: ServiceBackends) -> DeclaredRoutes:
    """Read files and folders. RouteFileError tells all errors, with file and line."""
    routes: list[Route] = []
    remarks: list[str] = []
    wrong: list[JetrunnerError] = []
    seen: dict[str, str] = {}
    try:
        files = tuple(dict.fromkeys(file for path in paths for file in _files(path)))
    except OSError as error:
        raise RouteFileError(f"{error.filename}: cannot be read: {error.strerror}") from None
    for file in files:
        try:
            found = _File(file, services, seen)
            found.read()
        except RouteFileError as error:
            wrong.append(error)
            continue
        wrong.extend(found.wrong)
        routes.extend(found.routes)
        remarks.extend(found.remarks)
    if wrong:
        raise several(wrong)
    return DeclaredRoutes(tuple(routes), tuple(remarks), files)


def services(functions: Iterable[Binding]) -> ServiceBackends:
    """The backend of each function of a project by its name, for manifests that name it as a service; or why it cannot be one."""
    return {binding.label: _service(binding) for binding in functions}


def _service(binding: Binding) -> RouteBackend | str:
    if binding.route is not None:
        if binding.route.names:
            return (
                f"its path {binding.route.path} has tokens, which no path of a manifest fills in: "
                "its own route leads to it"
            )
        return FunctionBackend(binding.function, binding.route.method, binding.route.auth)
    if binding.answers is None:
        return "the function of that name answers no requests, as one with @reply or @route does"
    if binding.subject.wildcard != binding.subject.text or not binding.subject.is_literal:
        return (
            f"its subject {binding.subject.text} has tokens, which no path of a manifest fills in: "
            "declare a route under [[tool.jetrunner.routes]]"
        )
    return RequestBackend(binding.subject)


def _kind(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("kind"), str):
        return str(value["kind"])
    raise Fault("a manifest has a kind")


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(
            each
            for each in path.iterdir()
            if each.suffix in SUFFIXES and each.is_file() and each.name[0] != "."
        )
    return [path]


class _File:
    """One file while it is read."""

    def __init__(self, path: Path, services: ServiceBackends, seen: dict[str, str]) -> None:
        self.path = path
        self.services = services
        self.seen = seen
        """File and line of each manifest, by kind and name."""
        self.routes: list[Route] = []
        self.remarks: list[str] = []
        self.wrong: list[RouteFileError] = []
        self._others: dict[str, int] = {}

    def read(self) -> None:
        documents = yamlfile.documents(self._text(), str(self.path))
        for document in documents:
            self._document(document, document.value, ())
        for kind, count in self._others.items():
            self.remarks.append(
                f"{self.path}: {counted(count, 'document')} of kind {kind} left alone: Ingress and HTTPRoute are read"
            )
        if not documents:
            self.remarks.append(f"{self.path}: there is nothing in it")

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RouteFileError(f"{self.path}: not UTF-8 text (byte {error.start})") from None
        except OSError as error:
            raise RouteFileError(f"{self.path}: cannot be read: {error.strerror}") from None

    def _document(self, document: Document, value: Any, place: tuple[str | int, ...]) -> None:
        try:
            kind = _kind(value)
            if kind in LISTS and isinstance(value.get("items"), list):
                for number, item in enumerate(value["items"]):
                    self._document(document, item, (*place, "items", number))
                return
            found = self._manifest(value)
        except Fault as error:
            line = document.line((*place, *error.place))
            problem = f"{written(place)}: {error}" if place else str(error)
            self.wrong.append(RouteFileError(f"{self.path}:{line}: {problem}"))
            return
        if found is None:
            self._others[kind] = self._others.get(kind, 0) + 1
            return
        name = f"{kind.lower()} {found.label}"
        line = document.line(place)
        if (other := self.seen.setdefault(name, f"{self.path}:{line}")) != f"{self.path}:{line}":
            self.wrong.append(RouteFileError(f"{self.path}:{line}: {name} stands in {other} already"))
        self.routes.extend(found.routes)
        self.remarks.extend(f"{self.path}:{line}: {name}: {remark}" for remark in found.remarks)

    def _manifest(self, value: dict[str, Any]) -> ReadManifest | None:
        """The routes of a manifest; None if its kind has no routes."""
        kind, version = value["kind"], value.get("apiVersion")
        if kind == ingress.KIND and str(version).partition("/")[0] in ("networking.k8s.io", "extensions"):
            if version != ingress.API:
                raise Fault(f"{version} is not read: write {ingress.API}", ("apiVersion",))
            return ingress.read(value, self.services)
        if kind == httproute.KIND and str(version).startswith("gateway.networking.k8s.io/"):
            if version not in httproute.API:
                raise Fault(f"{version} is not read: write {httproute.API[0]}", ("apiVersion",))
            return httproute.read(value, self.services)
        return None
