"""Manifests of Kubernetes: what both kinds share, namely checks, the backend of a service, and annotations of our own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from runner.core import quantity
from runner.core.http.backend import Fixed, FunctionBackend, RouteBackend
from runner.core.http.route import Options, Route, Weighted

T = TypeVar("T")

ServiceBackends: TypeAlias = Mapping[str, RouteBackend | str]
"""The backend of each function of the project, by its name; a text says why no request can go to the function."""

DocumentPlace: TypeAlias = tuple[str | int, ...]
"""A place in a document: the names and numbers that lead to it."""

UNAPPLIED = 1e18
"""The creation time of a manifest that has none: it counts as younger than all others."""

_AT = re.compile(r"(?s)(?P<what>.*?)(?: - at `(?P<key>key in )?\$(?P<place>[^`]*)`)?")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_KUBERNETES = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_OWN = "jetrunner/"
_SILENT = (
    "kubernetes.io/ingress.class",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubernetes.io/description",
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
)
"""Annotations that are ignored without a remark: the file was given by hand, whatever its class."""


class Fault(ValueError):  # noqa: N818  # a finding, which becomes an error with a file and a line
    """A manifest is wrong; `place` leads to the fault in it."""

    def __init__(self, problem: str, place: DocumentPlace = ()) -> None:
        super().__init__(f"{written(place)}: {problem}" if place else problem)
        self.place = place


class ReadManifest(Struct, frozen=True):
    """The routes of a manifest, and remarks on what has no effect: a sentence each, without the manifest's name."""

    label: str
    """`namespace/name`."""
    routes: tuple[Route, ...]
    remarks: tuple[str, ...]


class Metadata(Struct, frozen=True, rename="camel"):
    """The metadata of a manifest that is read; the rest concerns only Kubernetes."""

    name: Annotated[str, Meta(pattern=_KUBERNETES)]
    namespace: Annotated[str, Meta(pattern=_KUBERNETES)] = "default"
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None

    @property
    def label(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def created(self) -> float:
        """The time of creation, in seconds since 1970."""
        try:
            return datetime.fromisoformat(self.creation_timestamp or "").timestamp()
        except ValueError:
            return UNAPPLIED


class ManifestReading:
    """One manifest while it is read: its routes so far, and remarks on what has no effect."""

    def __init__(
        self,
        kind: Literal["httproute", "ingress"],
        metadata: Metadata,
        services: ServiceBackends,
        status: int,
    ) -> None:
        """`status` is the status for requests that nobody answers."""
        self.kind = kind
        self.metadata = metadata
        self.services = services
        self.status = status
        self.routes: list[Route] = []
        self.options, self.remarks = options(metadata.annotations)

    def done(self) -> ReadManifest:
        """Return the result; equal remarks are kept once."""
        return ReadManifest(self.metadata.label, tuple(self.routes), tuple(dict.fromkeys(self.remarks)))

    def unanswered(self, detail: str) -> Fixed:
        """Make the answer in the place of a backend that does not exist; `detail` is the sentence for the client."""
        return Fixed(self.status, detail)

    def service(self, name: str) -> RouteBackend:
        """Find the backend of a service, and keep the remark if there is none."""
        found, remark = service(name, self.services, self.status)
        self.remarks.extend([remark] if remark else [])
        return found

    def add(self, place: DocumentPlace, rule: DocumentPlace, created: float, **fields: Any) -> None:
        """Add the route at a place in a rule, after a check against the functions that it leads to."""
        try:
            backends, methods, whole, remarks = called(
                fields.pop("backends"),
                fields.pop("methods", ()),
                fields.pop("options", self.options),
                self.status,
            )
        except Fault as error:
            raise Fault(str(error), rule) from None
        self.remarks.extend(remarks)
        label = self.metadata.label
        named = {"name": f"{self.kind} {label}", "source": self.kind, "order": (created, label)}
        self.routes.append(made(place, **named, backends=backends, methods=methods, options=whole, **fields))


def written(place: DocumentPlace) -> str:
    """Write a place in a document, as `spec.rules[0].host`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def convert(document: Any, kind: type[T]) -> T:
    """Convert a document to a value of this type; `Fault` says what does not fit, and where."""
    try:
        return msgspec.convert(_given(document), kind)
    except msgspec.ValidationError as error:
        found = _AT.fullmatch(str(error))
        assert found is not None
        steps = _STEP.findall(found["place"] or "")
        place = tuple(int(number) if number else name for name, number in steps)
        problem = found["what"].replace("Object ", "").replace("`", "")
        raise Fault(problem[:1].lower() + problem[1:], place) from None


def _given(document: Any) -> Any:
    """Drop the members that are null: to the API server null is the same as absent."""
    if isinstance(document, dict):
        return {key: _given(value) for key, value in document.items() if value is not None}
    return [_given(value) for value in document] if isinstance(document, list) else document


def path(text: str | None, place: DocumentPlace) -> str:
    """Check a path of a manifest by the rules that both kinds share; the route itself checks its characters."""
    if text is None:
        return "/"
    if not text.startswith("/"):
        raise Fault(f"{text!r} does not begin with a slash", place)
    if "//" in text:
        raise Fault(f"{text!r} has an empty segment", place)
    return text


def service(name: str, services: ServiceBackends, status: int) -> tuple[RouteBackend, str]:
    """Find the backend of a service. If nobody answers for it: the answer with `status`, and a sentence that says so.

    Names of services have no underscore, so `my-service` may be the function `my_service`.
    """
    for function in (name, name.replace("-", "_")):
        found = services.get(function)
        if found is None:
            continue
        if not isinstance(found, str):
            return found, ""
        return _nobody(status), f"service {name}: {found}; its requests get {status}"
    close = difflib.get_close_matches(name.replace("-", "_"), list(services), 1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return _nobody(
        status
    ), f"service {name}: the project has no such function{meant}; its requests get {status}"


def called(
    backends: tuple[Weighted, ...], methods: tuple[str, ...], options: Options, status: int
) -> tuple[tuple[Weighted, ...], tuple[str, ...], Options, list[str]]:
    """Check a rule against its functions with `@route`; returns backends, methods, options, and sentences on refused requests.

    A function is asked only by its own method and, if the manifest names no authentication, only with the function's own.
    Fault if the functions of the rule differ in method or authentication.
    """
    kept: list[Weighted] = []
    remarks: list[str] = []
    own: set[str] = set()
    who: set[tuple[str, ...]] = set()
    for each in backends:
        call = each.backend
        if not isinstance(call, FunctionBackend) or not call.method:
            kept.append(each)
            continue
        taken = ("GET", "HEAD") if call.method == "GET" else (call.method,)
        if methods and not set(methods) <= set(taken):
            remarks.append(
                f"function {call.function} answers {call.method}, and the rule {', '.join(methods)}; its requests get {status}"
            )
            kept.append(msgspec.structs.replace(each, backend=_nobody(status)))
            continue
        kept.append(each)
        own.add(call.method)
        who |= {call.auth} if call.auth else set()
    if len(own) > 1:
        raise Fault(f"its functions answer different methods: {', '.join(sorted(own))}")
    if len(who) > 1 and not options.auth:
        raise Fault(f"its functions have different auth: name one that holds for all as {_OWN}auth")
    if own and not methods:
        [method] = own
        methods = ("GET", "HEAD") if method == "GET" else (method,)
    if who and not options.auth:
        options = msgspec.structs.replace(options, auth=next(iter(who)))
    return tuple(kept), methods, options, remarks


def options(annotations: Mapping[str, str]) -> tuple[Options, list[str]]:
    """Read the options from our own annotations, and make a sentence on unknown annotations."""
    given: dict[str, Any] = {}
    unknown: list[str] = []
    for key, value in annotations.items():
        if not key.startswith(_OWN):
            if key not in _SILENT:
                unknown.append(key)
            continue
        place = ("metadata", "annotations", key)
        try:
            field, read = ANNOTATIONS[key.removeprefix(_OWN)]
            given[field] = read(value)
        except KeyError:
            known = ", ".join(f"{_OWN}{name}" for name in ANNOTATIONS)
            raise Fault(f"there is no such annotation; there are {known}", place) from None
        except ValueError as error:
            raise Fault(str(error), place) from None
    remarks = (
        [f"these annotations are not known here and do nothing: {', '.join(unknown)}"] if unknown else []
    )
    return Options(**given), remarks


def made(place: DocumentPlace, **fields: Any) -> Route:
    """Make a route; an error in it is a `Fault` at that place."""
    try:
        return Route(**fields)
    except ValueError as error:
        raise Fault(str(error), place) from None


def _nobody(status: int) -> Fixed:
    return Fixed(status, "The service behind this path is not here.")


def _seconds(text: str) -> float:
    found = quantity.seconds(text)
    if not found:
        raise ValueError(f"{text!r} is no time")
    return found


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(f"{text!r} is not a name, or several with commas")
    return names


ANNOTATIONS: dict[str, tuple[str, Any]] = {
    "auth": ("auth", _names),
    "timeout": ("timeout", _seconds),
    "body-limit": ("body_limit", quantity.size),
}
"""The annotations by their names after `jetrunner/`: the option of the routes, and the reader of its text."""
