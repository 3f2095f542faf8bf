"""What manifests of Kubernetes have in common: how they are checked, whom a service stands for, annotations of our own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from runner.core import quantity
from runner.core.http.backend import Backend, Call, Fixed
from runner.core.http.route import Options, Route, Weighted

T = TypeVar("T")

Services: TypeAlias = Mapping[str, Backend | str]
"""What each function of the project stands for, by its name; a text says why no request can go to it."""

Place: TypeAlias = tuple[str | int, ...]
"""Where something stands in a document: the names and numbers that lead to it."""

UNAPPLIED = 1e18
"""When a manifest was created that does not say: it is younger than all that do."""

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
"""Annotations that ask nothing of whoever serves: the file was given by hand, whatever its class."""


class Fault(ValueError):  # noqa: N818  # a finding, which becomes an error with a file and a line
    """A manifest that is none; `place` leads to what is wrong in it."""

    def __init__(self, problem: str, place: Place = ()) -> None:
        super().__init__(f"{written(place)}: {problem}" if place else problem)
        self.place = place


class Read(Struct, frozen=True):
    """The routes of a manifest, and what of it cannot be honoured: a sentence each, without its name."""

    label: str
    """`namespace/name`."""
    routes: tuple[Route, ...]
    remarks: tuple[str, ...]


class Metadata(Struct, frozen=True, rename="camel"):
    """Whose manifest it is; the rest of the metadata is Kubernetes' own."""

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
        """Seconds since 1970."""
        try:
            return datetime.fromisoformat(self.creation_timestamp or "").timestamp()
        except ValueError:
            return UNAPPLIED


class Reading:
    """One manifest on its way: its routes so far, and what of it cannot be honoured."""

    def __init__(
        self, kind: Literal["httproute", "ingress"], metadata: Metadata, services: Services, status: int
    ) -> None:
        """Requests that nobody answers get `status`."""
        self.kind = kind
        self.metadata = metadata
        self.services = services
        self.status = status
        self.routes: list[Route] = []
        self.options, self.remarks = options(metadata.annotations)

    def done(self) -> Read:
        """All of it; what was remarked twice is told once."""
        return Read(self.metadata.label, tuple(self.routes), tuple(dict.fromkeys(self.remarks)))

    def unanswered(self, detail: str) -> Fixed:
        """In the place of a backend that is not here; `detail` is what the client is told."""
        return Fixed(self.status, detail)

    def service(self, name: str) -> Backend:
        """Whom a service stands for."""
        found, remark = service(name, self.services, self.status)
        self.remarks.extend([remark] if remark else [])
        return found

    def add(self, place: Place, rule: Place, created: float, **fields: Any) -> None:
        """A route at a place in a rule, held against what its functions say."""
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


def written(place: Place) -> str:
    """A place in a document, as `spec.rules[0].host`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def convert(document: Any, kind: type[T]) -> T:
    """The document as a value; `Fault` says where it is none."""
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
    """Without what is null: to the API server that is the same as not given."""
    if isinstance(document, dict):
        return {key: _given(value) for key, value in document.items() if value is not None}
    return [_given(value) for value in document] if isinstance(document, list) else document


def path(text: str | None, place: Place) -> str:
    """A path of a manifest, by the rules of both kinds; the form of its bytes is checked by the route itself."""
    if text is None:
        return "/"
    if not text.startswith("/"):
        raise Fault(f"{text!r} does not begin with a slash", place)
    if "//" in text:
        raise Fault(f"{text!r} has an empty segment", place)
    return text


def service(name: str, services: Services, status: int) -> tuple[Backend, str]:
    """Whom a service stands for, and a sentence where nobody answers for it: it gets `status` then.

    Names of services have no underscore: `my-service` is the function `my_service`.
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
    """Hold a rule against what its functions with `@route` say: backends, methods, options, and sentences on what is refused.

    A function is asked by its own method alone, and by those alone who may, where the manifest names nobody. Fault where
    its functions say different things.
    """
    kept: list[Weighted] = []
    remarks: list[str] = []
    own: set[str] = set()
    who: set[tuple[str, ...]] = set()
    for each in backends:
        call = each.backend
        if not isinstance(call, Call) or not call.method:
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
    """What annotations of our own say, and a sentence on those that are not known here."""
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


def made(place: Place, **fields: Any) -> Route:
    """A route; what is wrong with it is a fault at that place."""
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
"""What stands behind `jetrunner/`: the option of its routes, and how its text is read."""
