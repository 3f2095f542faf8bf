"""An HTTPRoute (`gateway.networking.k8s.io/v1`), read into routes: one for each match of each rule.

Rule 1: the wildcard of a host covers one label or more.
Rule 2: if nobody answers for a backend, its share of the requests gets 500. So do all requests of a rule without backends, and of
        a rule with an unknown filter.
Rule 3: a match with a regular expression takes no requests, because a request could be made that takes very long to match.
Rule 4: gateways, ports and namespaces are ignored: the file was given by hand, and a service is a function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from runner.core import quantity
from runner.core.http import manifest, routefilters
from runner.core.http.backend import Fixed, Redirect, RouteBackend
from runner.core.http.manifest import DocumentPlace, Fault, Metadata, ReadManifest, ServiceBackends
from runner.core.http.route import Condition, Exact, Options, Path, Prefix, Weighted
from runner.core.http.routefilters import Filters, GivenFilter

API = ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1")
KIND = "HTTPRoute"

UNANSWERED = 500
"""The status when nobody answers for a backend, by the specification."""


class _PathMatch(Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "PathPrefix"
    value: str = "/"


class _Named(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    value: str
    type: str = "Exact"


class _Match(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    path: _PathMatch = _PathMatch()
    headers: tuple[_Named, ...] = ()
    query_params: tuple[_Named, ...] = ()
    method: str | None = None


class _Ref(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    group: str = ""
    kind: str = "Service"
    namespace: str | None = None
    port: int | None = None
    weight: int = 1
    filters: tuple[GivenFilter, ...] = ()


class _Timeouts(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    request: str | None = None
    backend_request: str | None = None


class _Rule(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    name: str | None = None
    matches: tuple[_Match, ...] = ()
    filters: tuple[GivenFilter, ...] = ()
    backend_refs: tuple[_Ref, ...] = ()
    timeouts: _Timeouts = _Timeouts()
    retry: Any = None
    session_persistence: Any = None


class _Spec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    parent_refs: tuple[Any, ...] = ()
    use_default_gateways: Any = None
    hostnames: tuple[str, ...] = ()
    rules: tuple[_Rule, ...] = (_Rule(),)


class _HttpRoute(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    api_version: str
    kind: str
    metadata: Metadata
    spec: _Spec
    status: Any = None


def read(document: Any, services: ServiceBackends) -> ReadManifest:
    """Read a manifest; `Fault` says what is wrong with it, and where."""
    found = manifest.convert(document, _HttpRoute)
    return _Rules(found, services).read()


class _Rules:
    """The rules of one HTTPRoute, read into routes."""

    def __init__(self, given: _HttpRoute, services: ServiceBackends) -> None:
        self.spec = given.spec
        self.found = manifest.ManifestReading("httproute", given.metadata, services, UNANSWERED)

    def read(self) -> ReadManifest:
        for number, rule in enumerate(self.spec.rules):
            self._rule(rule, ("spec", "rules", number))
        return self.found.done()

    def _rule(self, rule: _Rule, place: DocumentPlace) -> None:
        for field, given in (("retry", rule.retry), ("sessionPersistence", rule.session_persistence)):
            if given is not None:
                self.found.remarks.append(f"{field} is not known here and does nothing")
        found = routefilters.read(rule.filters, place)
        backends = self._backends(rule, found, place)
        options = self._options(rule.timeouts, found, place)
        for number, match in enumerate(rule.matches or (_Match(),)):
            inside = (*place, "matches", number)
            path = self._path(match, inside)
            headers = self._conditions(match.headers, (*inside, "headers"))
            query = self._conditions(match.query_params, (*inside, "queryParams"))
            if path is None or headers is None or query is None:
                continue
            if found.prefixed and not isinstance(path, Prefix):
                raise Fault("ReplacePrefixMatch needs matches with PathPrefix", inside)
            self.found.add(
                inside,
                place,
                self.found.metadata.created,
                hosts=tuple(self.spec.hostnames),
                path=path,
                methods=(match.method,) if match.method else (),
                headers=tuple(Condition(each.name.lower(), each.value) for each in headers),
                query=query,
                backends=backends,
                filters=found.filters,
                options=options,
            )

    def _backends(self, rule: _Rule, found: Filters, place: DocumentPlace) -> tuple[Weighted, ...]:
        if found.unknown:
            return (Weighted(self._unknown(found)),)
        if found.redirect is not None:
            return (Weighted(found.redirect),)
        if not rule.backend_refs:
            self.found.remarks.append(f"a rule has no backends; its requests get {UNANSWERED}")
            return (Weighted(self.found.unanswered("There is nothing behind this path.")),)
        return tuple(
            self._backend(ref, (*place, "backendRefs", number))
            for number, ref in enumerate(rule.backend_refs)
        )

    def _backend(self, ref: _Ref, place: DocumentPlace) -> Weighted:
        found = routefilters.read(ref.filters, place)
        backend: RouteBackend | Redirect
        if found.unknown:
            backend = self._unknown(found)
        elif found.redirect is not None:
            backend = found.redirect
        elif (ref.group, ref.kind) != ("", "Service"):
            self.found.remarks.append(
                f"backend {ref.name}: a {ref.kind} is not known here; its requests get {UNANSWERED}"
            )
            backend = self.found.unanswered("What is behind this path is not here.")
        else:
            backend = self.found.service(ref.name)
        if found.prefixed or found.cors:
            raise Fault("ReplacePrefixMatch and CORS belong to the rule, not to a backend", place)
        return Weighted(backend, ref.weight, found.filters)

    def _unknown(self, found: Filters) -> Fixed:
        kinds = ", ".join(dict.fromkeys(found.unknown))
        self.found.remarks.append(f"filter {kinds} is not known here; requests get {UNANSWERED}")
        return self.found.unanswered("A filter of this path is not known here.")

    def _options(self, timeouts: _Timeouts, found: Filters, place: DocumentPlace) -> Options:
        options = msgspec.structs.replace(self.found.options, cors=found.cors or self.found.options.cors)
        try:
            given = [quantity.seconds(text) for text in (timeouts.request, timeouts.backend_request) if text]
        except ValueError as error:
            raise Fault(str(error), (*place, "timeouts")) from None
        if 0 in given:
            self.found.remarks.append("a timeout of 0 means none; there is one here, that of the gateway")
        seconds = [each for each in given if each]
        return msgspec.structs.replace(options, timeout=min(seconds)) if seconds else options

    def _path(self, match: _Match, place: DocumentPlace) -> Path | None:
        text = manifest.path(match.path.value, (*place, "path", "value"))
        if match.path.type == "RegularExpression":
            self._regular("paths")
            return None
        if match.path.type not in ("Exact", "PathPrefix"):
            raise Fault(f"{match.path.type!r} is not Exact or PathPrefix", (*place, "path", "type"))
        return Exact(text) if match.path.type == "Exact" else Prefix(text)

    def _conditions(self, given: Sequence[_Named], place: DocumentPlace) -> tuple[Condition, ...] | None:
        found: dict[str, Condition] = {}
        for number, each in enumerate(given):
            if each.type == "RegularExpression":
                self._regular("headers and parameters")
                return None
            if each.type != "Exact":
                raise Fault(f"{each.type!r} is not Exact", (*place, number, "type"))
            key = each.name.lower() if place[-1] == "headers" else each.name
            found.setdefault(key, Condition(each.name, each.value))  # of two with one name the first counts
        return tuple(found.values())

    def _regular(self, what: str) -> None:
        self.found.remarks.append(
            f"regular expressions for {what} are not known here; such a match takes no requests"
        )
