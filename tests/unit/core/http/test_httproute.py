"""An HTTPRoute: filters, weights, timeouts, what is said of the rest, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.http import httproute
from runner.core.http.backend import Fixed, FunctionBackend, Redirect, RouteBackend
from runner.core.http.filters import Headers, Rewrite
from runner.core.http.manifest import Fault, ReadManifest, ServiceBackends
from runner.core.http.route import Exact, Prefix
from runner.core.http.routetable import Matched, RouteTable
from tests.support.manifests import httproute as document
from tests.support.manifests import refs

SERVICES: ServiceBackends = {"one": FunctionBackend("one"), "two": FunctionBackend("two")}


def read(*rules: dict[str, Any], **more: Any) -> ReadManifest:
    return httproute.read(document(*rules, **more), SERVICES)


def under(prefix: str, kind: str = "PathPrefix") -> dict[str, Any]:
    return {"path": {"type": kind, "value": prefix}}


def filtered(kind: str, field: str = "", settings: Any = None, match: Any = None) -> dict[str, Any]:
    each = {"type": kind, **({field: settings} if field else {})}
    return {"matches": [match or under("/a")], "filters": [each], "backendRefs": refs("one")}


def test_a_rule_is_a_route_for_each_match_and_without_any_takes_all() -> None:
    found = read({"matches": [under("/a"), under("/b", "Exact")], "backendRefs": refs("one")}, {"backendRefs": refs("two")})  # fmt: skip
    assert [route.path for route in found.routes] == [Prefix("/a"), Exact("/b"), Prefix("/")]


def test_backends_have_weights_and_one_that_is_missing_gets_500_at_its_own() -> None:
    found = read({"backendRefs": refs(one=9, gone=1)})
    assert [(each.weight, type(each.backend)) for each in found.routes[0].backends] == [
        (9, FunctionBackend),
        (1, Fixed),
    ]
    assert found.remarks == ("service gone: the project has no such function (did you mean one?); its requests get 500",)  # fmt: skip


def test_headers_are_set_added_and_removed_on_both_ways() -> None:
    settings = {
        "set": [{"name": "X-A", "value": "1"}],
        "add": [{"name": "X-B", "value": "2"}],
        "remove": ["X-C"],
    }
    expected = {"set": (("x-a", "1"),), "add": (("x-b", "2"),), "remove": ("x-c",)}
    request = read(filtered("RequestHeaderModifier", "requestHeaderModifier", settings))
    response = read(filtered("ResponseHeaderModifier", "responseHeaderModifier", settings))
    assert request.routes[0].filters == (Headers(of="request", **expected),)  # type: ignore[arg-type]
    assert response.routes[0].filters == (Headers(of="response", **expected),)  # type: ignore[arg-type]


def test_paths_and_hosts_are_rewritten() -> None:
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/é"}
    found = read(filtered("URLRewrite", "urlRewrite", {"hostname": "B.com", "path": path}))
    assert found.routes[0].filters == (Rewrite(host="b.com", replace_prefix="/%C3%A9"),)


def test_a_redirect_needs_no_backend_and_takes_its_place() -> None:
    settings = {"scheme": "https", "hostname": "b.com", "port": 8443, "statusCode": 301}
    rule = {"filters": [{"type": "RequestRedirect", "requestRedirect": settings}]}
    (route,) = read(rule).routes
    assert route.backends[0].backend == Redirect(status=301, scheme="https", host="b.com", port=8443)


def test_cors_is_an_option_of_the_route() -> None:
    settings = {"allowOrigins": ["https://a.com"], "allowMethods": ["GET"], "allowCredentials": True}
    cors = read(filtered("CORS", "cors", settings)).routes[0].options.cors
    assert cors is not None
    assert (cors.origins, cors.methods, cors.credentials, cors.max_age) == (
        ("https://a.com",),
        ("GET",),
        True,
        5,
    )


def test_the_shorter_of_both_timeouts_counts() -> None:
    found = read({"backendRefs": refs("one"), "timeouts": {"request": "10s", "backendRequest": "500ms"}})
    assert found.routes[0].options.timeout == 0.5
    none = read({"backendRefs": refs("one"), "timeouts": {"request": "0s"}})
    assert none.routes[0].options.timeout is None
    assert none.remarks == ("a timeout of 0 means none; there is one here, that of the gateway",)


@pytest.mark.parametrize("kind", ["RequestMirror", "ExtensionRef", "ExternalAuth"])
def test_a_filter_that_is_not_known_makes_its_requests_fail(kind: str) -> None:
    found = read(filtered(kind))
    assert [type(each.backend) for each in found.routes[0].backends] == [Fixed]
    assert found.remarks == (f"filter {kind} is not known here; requests get 500",)


def test_filters_of_one_backend_are_its_own() -> None:
    ref = {
        "name": "one",
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["a"]}}],
    }
    (route,) = read({"backendRefs": [ref, *refs("two")]}).routes
    assert [len(each.filters) for each in route.backends] == [1, 0]


@pytest.mark.parametrize(
    "match",
    [
        under("/a.*", "RegularExpression"),
        {"headers": [{"name": "a", "value": ".*", "type": "RegularExpression"}]},
        {"queryParams": [{"name": "a", "value": ".*", "type": "RegularExpression"}]},
    ],
)
def test_a_match_with_a_regular_expression_takes_nothing_and_that_is_said(match: Any) -> None:
    found = read({"matches": [match, under("/b")], "backendRefs": refs("one")})
    assert [route.path for route in found.routes] == [Prefix("/b")]
    assert len(found.remarks) == 1
    assert found.remarks[0].startswith("regular expressions for ")


def test_what_does_nothing_here_is_said_once() -> None:
    rule = {"backendRefs": refs("one"), "retry": {"attempts": 2}, "sessionPersistence": {"sessionName": "a"}}
    found = read(rule, rule, {})
    assert found.remarks == (
        "retry is not known here and does nothing",
        "sessionPersistence is not known here and does nothing",
        "a rule has no backends; its requests get 500",
    )


def test_of_two_headers_with_one_name_the_first_counts() -> None:
    headers = [{"name": "A", "value": "1"}, {"name": "a", "value": "2"}]
    (route,) = read({"matches": [{"headers": headers}], "backendRefs": refs("one")}).routes
    assert [(each.name, each.value) for each in route.headers] == [("a", "1")]


def test_routes_without_a_time_are_ordered_by_their_names() -> None:
    routes = [
        route
        for name, service in (("b", "two"), ("a", "one"))
        for route in httproute.read(document({"backendRefs": refs(service)}, name=name), SERVICES).routes
    ]
    got = RouteTable(routes, luck=lambda: 0.0).match("GET", "", b"/", b"", ())
    assert isinstance(got, Matched)
    assert got.backend == FunctionBackend("one")


def replaced(**path: str) -> dict[str, Any]:
    return {"path": path}


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"match": []}, r"spec.rules\[0\]: contains unknown field match"),
        ({"matches": [under("/a", "Prefix")]}, r"matches\[0\].path.type: 'Prefix' is not Exact or PathPrefix"),
        ({"matches": [under("/a//b")]}, "has an empty segment"),
        ({"matches": [{"method": "get"}]}, "method 'get' is not a word in capitals"),
        ({"backendRefs": refs(one=-1)}, "weight -1"),
        (filtered("URLRewrite"), "URLRewrite has no settings"),
        (filtered("URLRewrite", "urlRewrite", {"hostname": "*.a.com"}), "is a wildcard"),
        (filtered("URLRewrite", "urlRewrite", replaced(type="ReplaceFullPath")), "needs its own value"),
        (filtered("URLRewrite", "urlRewrite", replaced(type="ReplaceFullPath", replaceFullPath="a")), "'a': the path"),
        (filtered("URLRewrite", "urlRewrite", replaced(type="ReplacePrefixMatch", replacePrefixMatch="/b"), under("/a", "Exact")), "needs matches with PathPrefix"),
        (filtered("RequestRedirect", "requestRedirect", {"statusCode": 200}), "invalid enum value 200"),
        (filtered("RequestRedirect", "requestRedirect", {"port": 0}), "0 is not a port"),
        (filtered("RequestHeaderModifier", "requestHeaderModifier", {"set": [{"name": "a b", "value": ""}]}), "is not a header"),
        (filtered("RequestHeaderModifier", "requestHeaderModifier", {"set": [{"name": "a", "value": "b\r\nc: d"}]}), "is not a header"),
        (filtered("ResponseHeaderModifier", "responseHeaderModifier", {"remove": ["Content-Length"]}), "not for a filter"),
    ],
)  # fmt: skip
def test_what_is_no_httproute_is_told_with_its_place(rule: dict[str, Any], why: str) -> None:
    with pytest.raises(Fault, match=why):
        read({"backendRefs": refs("one"), **rule})


def test_two_filters_of_a_kind_and_a_rewrite_beside_a_redirect_are_refused() -> None:
    rewrite = {"type": "URLRewrite", "urlRewrite": {}}
    with pytest.raises(Fault, match=r"spec.rules\[0\].filters\[1\]: URLRewrite stands here twice"):
        read({"filters": [rewrite, rewrite]})
    with pytest.raises(Fault, match="stand together"):
        read({"filters": [rewrite, {"type": "RequestRedirect", "requestRedirect": {}}]})


def test_services_of_no_name_that_is_close_are_told_plainly() -> None:
    services: dict[str, RouteBackend | str] = {}
    found = httproute.read(document({"backendRefs": refs("one")}), services)
    assert found.remarks == ("service one: the project has no such function; its requests get 500",)
