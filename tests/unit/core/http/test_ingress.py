"""An Ingress: what becomes routes, what is said of the rest, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.http import ingress
from runner.core.http.backend import Fixed, FunctionBackend, RequestBackend, RouteBackend
from runner.core.http.manifest import Fault, ReadManifest, ServiceBackends
from runner.core.http.route import Exact, Options, Prefix
from runner.core.http.routetable import Matched, RouteTable
from runner.core.subject import Template
from tests.support.manifests import backend, path, rule
from tests.support.manifests import ingress as document

ONE = RequestBackend(Template.parse("one"))
SERVICES: ServiceBackends = {
    "one": ONE,
    "my_service": FunctionBackend("my_service"),
    "charge": "it is a @consume function",
}


def read(given: Any, services: ServiceBackends = SERVICES) -> ReadManifest:
    return ingress.read(given, services)


def test_a_service_with_a_dash_is_the_function_with_an_underscore() -> None:
    found = read(document(rule(path("/a", "my-service"))))
    assert (found.routes[0].backends[0].backend, found.remarks) == (FunctionBackend("my_service"), ())


def test_path_types_are_exact_and_prefix_and_the_third_is_prefix() -> None:
    found = read(document(rule(path("/a", kind="Exact"), path("/b"), path("/c", kind="ImplementationSpecific"), path(None, kind="ImplementationSpecific"))))  # fmt: skip
    assert [route.path for route in found.routes] == [Exact("/a"), Prefix("/b"), Prefix("/c"), Prefix("/")]


def test_a_service_that_is_no_function_is_said_once_and_gets_503() -> None:
    found = read(document(rule(path("/a", "my-servise"), path("/b", "my-servise"))))
    assert found.remarks == (
        "service my-servise: the project has no such function (did you mean my_service?); its requests get 503",
    )
    assert [route.backends[0].backend for route in found.routes] == [Fixed(503, "The service behind this path is not here.")] * 2  # fmt: skip


def test_a_service_that_answers_nothing_is_told_with_the_reason() -> None:
    found = read(document(rule(path("/a", "charge"))))
    assert found.remarks == ("service charge: it is a @consume function; its requests get 503",)


def test_tls_unknown_annotations_and_resources_are_said_once() -> None:
    resource = {"pathType": "Prefix", "path": "/r", "backend": {"resource": {"kind": "Bucket", "name": "b"}}}
    annotations = {
        "nginx.ingress.kubernetes.io/auth-url": "https://x",
        "kubernetes.io/ingress.class": "nginx",
    }
    found = read(document(rule(resource, resource), annotations=annotations, tls=[{"secretName": "s"}], ingressClassName="nginx"))  # fmt: skip
    assert found.remarks == (
        "these annotations are not known here and do nothing: nginx.ingress.kubernetes.io/auth-url",
        "tls: its secrets are not read here; end TLS in front of the gateway",
        "backends that are resources are not known here; requests get 503",
    )


def test_annotations_of_ours_are_options_of_all_its_routes() -> None:
    annotations = {
        "jetrunner/auth": "partners, staff",
        "jetrunner/timeout": "5s",
        "jetrunner/body-limit": "1MiB",
    }
    found = read(document(rule(path("/a"), path("/b")), annotations=annotations))
    assert {route.options for route in found.routes} == {Options(auth=("partners", "staff"), timeout=5.0, body_limit=2**20)}  # fmt: skip


def test_null_is_the_same_as_not_given() -> None:
    given = document(rule(path("/a")), tls=None, defaultBackend=None)
    given["metadata"]["annotations"] = None
    given["spec"]["rules"][0]["host"] = None
    assert [route.hosts for route in read(given).routes] == [()]


def test_the_default_backend_comes_after_every_rule_of_every_manifest() -> None:
    first = read(document(defaultBackend=backend("one"), name="a"))
    second = read(document(rule(path("/", "my-service")), name="z"))
    got = RouteTable((*first.routes, *second.routes), luck=lambda: 0.0).match("GET", "x", b"/", b"", ())
    assert isinstance(got, Matched)
    assert got.backend == FunctionBackend("my_service")


def test_of_two_manifests_with_one_path_the_older_has_it() -> None:
    def created(name: str, service: str, when: str) -> dict[str, Any]:
        given = document(rule(path("/", service)), name=name)
        given["metadata"]["creationTimestamp"] = when
        return given

    routes = [
        route
        for given in (
            created("a", "one", "2026-02-01T00:00:00Z"),
            created("b", "my-service", "2026-01-01T00:00:00Z"),
        )
        for route in read(given).routes
    ]
    got = RouteTable(routes, luck=lambda: 0.0).match("GET", "x", b"/", b"", ())
    assert isinstance(got, Matched)
    assert got.route.name == "ingress default/b"


def changed(**fields: Any) -> dict[str, Any]:
    return {**document(rule(path("/a"))), **fields}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (document(), "spec: it has neither rules nor a defaultBackend"),
        (changed(spec={"rule": []}), "spec: contains unknown field rule"),
        (changed(metadata={}), "metadata: missing required field name"),
        (changed(metadata={"name": "a\nb"}), "metadata.name: expected str matching regex"),
        (document(rule({"path": "/a", "backend": backend("one")})), r"spec.rules\[0\].http.paths\[0\]: missing required field pathType"),
        (document(rule(path("/a", kind="prefix"))), r"paths\[0\].pathType: 'prefix' is not Exact, Prefix or"),
        (document(rule(path("/a"), path("a"))), r"spec.rules\[0\].http.paths\[1\].path: 'a' does not begin with a slash"),
        (document(rule(path(None))), r"paths\[0\]: Prefix needs a path"),
        (document(rule(path("/a//b"))), r"'/a//b' has an empty segment"),
        (document(rule(path("/a/../b"))), r"paths\[0\]: path '/a/../b': the path has a segment"),
        (document(rule(path("/a?b"))), r"the path has a '\?'"),
        (document(rule(path("/a"), host="a.*.com")), r"host 'a.\*.com' is not a name"),
        (document(rule(path("/a"), host="10.0.0.1:80")), r"is not a name"),
        (document(rule({"path": "/a", "pathType": "Prefix", "backend": {}})), "a backend is a service or a resource"),
        (document(rule(path("/a")), annotations={"jetrunner/time": "1s"}), "there is no such annotation; there are jetrunner/auth"),
        (document(rule(path("/a")), annotations={"jetrunner/timeout": "soon"}), "'soon' is not a duration"),
        (document(rule(path("/a")), annotations={"jetrunner/timeout": "0s"}), "is no time"),
        (document(rule(path("/a")), annotations={"a": 1}), "metadata.annotations: expected str, got int"),
        ([], "expected object, got array"),
    ],
)  # fmt: skip
def test_what_is_no_ingress_is_told_with_its_place(given: Any, why: str) -> None:
    with pytest.raises(Fault, match=why):
        read(given)


def test_the_two_services_of_the_example_are_two_prefixes_of_one_host() -> None:
    services: dict[str, RouteBackend | str] = {"service1": ONE, "service2": FunctionBackend("two")}
    annotations = {"kubernetes.io/ingress.class": "istio", "istio.io/v1beta1": "ingress"}
    given = document(
        rule(path("/service1", "service1"), path("/service2", "service2"), host="example.com"),
        annotations=annotations,
    )
    found = read(given, services)
    table = RouteTable(found.routes, luck=lambda: 0.0)
    got = [
        table.match("GET", "example.com", asked, b"", ()) for asked in (b"/service1", b"/service2/x", b"/")
    ]
    assert [each.backend if isinstance(each, Matched) else each.status for each in got] == [
        ONE,
        FunctionBackend("two"),
        404,
    ]
    assert found.remarks == ("these annotations are not known here and do nothing: istio.io/v1beta1",)
