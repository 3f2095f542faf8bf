"""The table: which route is taken, and what those get that take none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.http.backend import FunctionBackend, Publish, RequestBackend, RouteBackend
from runner.core.http.filters import Headers
from runner.core.http.route import Condition, Exact, Path, Pattern, Prefix, Route, Weighted
from runner.core.http.routetable import Matched, RouteTable, Unmatched
from runner.core.subject import Template


def to(name: str) -> tuple[Weighted, ...]:
    return (Weighted(FunctionBackend(name)),)


def route(name: str, path: Path, **more: Any) -> Route:
    return Route(**{"name": name, "path": path, "backends": to(name), **more})


def asking(subject: str) -> RouteBackend:
    return RequestBackend(Template.parse(subject))


def table(*routes: Route) -> RouteTable:
    return RouteTable(routes, luck=lambda: 0.5)


def match(
    found: RouteTable,
    path: str,
    method: str = "GET",
    host: str = "example.com",
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Matched | Unmatched:
    return found.match(method, host, path.encode(), query, headers)


def taken(found: RouteTable, *asked: Any, **more: Any) -> str | int:
    """The name of the route, or the status of the refusal."""
    got = match(found, *asked, **more)
    return got.route.name if isinstance(got, Matched) else got.status


def test_exact_precedes_patterns_and_patterns_precede_prefixes() -> None:
    found = table(
        route("prefix", Prefix("/a/b")),
        route("pattern", Pattern("/a/{x}")),
        route("exact", Exact("/a/b")),
        route("root", Prefix("/")),
    )
    asked = ["/a/b", "/a/c", "/a/b/c", "/a/b/", "/z", "/"]
    assert [taken(found, path) for path in asked] == ["exact", "pattern", "prefix", "prefix", "root", "root"]


def test_of_two_patterns_the_first_literal_that_differs_decides() -> None:
    found = table(
        route("names", Pattern("/{a}/{b}/c")),
        route("early", Pattern("/x/{b}/{c}")),
        route("late", Pattern("/{a}/y/{c}")),
    )
    asked = ["/x/y/c", "/z/y/c", "/z/z/c", "/x/q/c", "/z/z/z"]
    assert [taken(found, path) for path in asked] == ["early", "late", "names", "early", 404]


def test_a_pattern_that_leads_nowhere_is_left_for_another() -> None:
    found = table(route("deep", Pattern("/x/{b}/end")), route("names", Pattern("/{a}/{b}/{c}")))
    got = match(found, "/x/1/2")
    assert isinstance(got, Matched)
    assert (got.route.name, got.params) == ("names", {"a": "x", "b": "1", "c": "2"})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/orders/7", {"id": "7"}),
        ("/orders/a%2Fb", {"id": "a/b"}),
        ("/orders/%252F", {"id": "%2F"}),
        ("/orders/100%25", {"id": "100%"}),
        ("/orders/caf%C3%A9", {"id": "café"}),
        ("/orders/a;v=1", {"id": "a;v=1"}),
        ("/orders/a+b%20c", {"id": "a+b c"}),
        ("/orders/%7Bid%7D", {"id": "{id}"}),
    ],
)
def test_tokens_of_a_path_are_decoded_once(path: str, expected: dict[str, str]) -> None:
    got = match(table(route("order", Pattern("/orders/{id}"))), path)
    assert isinstance(got, Matched)
    assert got.params == expected


@pytest.mark.parametrize("path", ["/orders/", "/orders", "/orders//", "/orders/a/b", "//7", "/orders/7/"])
def test_a_token_is_one_segment_that_is_not_empty(path: str) -> None:
    assert taken(table(route("order", Pattern("/orders/{id}"))), path) == 404


def test_slashes_are_not_merged_and_an_encoded_one_is_no_border() -> None:
    found = table(route("admin", Prefix("/admin")), route("ab", Exact("/a/b")), route("%", Exact("/c%2Fd")))
    asked = ["/admin", "//admin", "/%61dmin", "/admin%2Fx", "/a%2Fb", "/a//b", "/c%2fd", "/c/d", "/admin;x"]
    assert [taken(found, path) for path in asked] == ["admin", 404, "admin", 404, 404, 404, "%", 404, 404]


@pytest.mark.parametrize("path", ["/a/../admin", "/%2e%2e/x", "/a%00", "/%ff", "/%", "relative"])
def test_no_route_takes_what_is_no_path(path: str) -> None:
    assert taken(table(route("all", Prefix("/"))), path) == 400


def test_no_route_takes_what_is_no_host() -> None:
    assert taken(table(route("all", Prefix("/"))), "/", host="a b") == 400


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("/q/acme/7", "quotes.acme.7"),
        ("/q/caf%C3%A9/a%2Fb", "quotes.café.a/b"),
        ("/q/a*b/x>", "quotes.a*b.x>"),
        ("/q/a.b/7", 400),
        ("/q/*/7", 400),
        ("/q/%3E/7", 400),
        ("/q/a%20b/7", 400),
        ("/q/%C2%A0/7", 400),
        ("/q/x/" + "y" * 4000, 400),
    ],
)  # fmt: skip
def test_a_token_that_is_none_of_a_subject_is_refused(path: str, subject: str | int) -> None:
    quote = Weighted(asking("quotes.{customer}.{id}"))
    got = match(table(route("quote", Pattern("/q/{customer}/{id}"), backends=(quote,))), path)
    assert (got.subject if isinstance(got, Matched) else got.status) == subject


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8))
def test_a_subject_has_as_many_tokens_as_its_template_whatever_comes(token: str) -> None:
    from urllib.parse import quote

    found = table(route("q", Pattern("/q/{x}"), backends=(Weighted(asking("quotes.{x}.done")),)))
    got = match(found, "/q/" + quote(token, safe=""))
    if isinstance(got, Matched):
        assert got.subject.split(".") == ["quotes", token, "done"]
        assert token not in ("*", ">")
    else:
        assert got.status == 400


def test_a_wrong_method_of_our_own_routes_is_told_with_those_there_are() -> None:
    found = table(
        route("get", Pattern("/a/{x}"), methods=("GET",)), route("post", Pattern("/a/{y}"), methods=("POST",))
    )
    assert [taken(found, "/a/1", method) for method in ("GET", "HEAD", "POST")] == ["get", "get", "post"]
    got = match(found, "/a/1", "DELETE")
    assert isinstance(got, Unmatched)
    assert (got.status, got.allow) == (405, ("GET", "HEAD", "POST"))


def test_a_wrong_method_of_an_httproute_is_as_if_nothing_were_there() -> None:
    found = table(route("get", Exact("/a"), methods=("GET",), source="httproute"))
    assert [taken(found, "/a", method) for method in ("GET", "HEAD", "POST")] == ["get", 404, 404]


def test_a_route_that_names_methods_precedes_then_more_headers_then_more_parameters() -> None:
    one, two = Condition("x-one", "1"), Condition("x-two", "2")
    found = table(
        route("any", Exact("/")),
        route("query", Exact("/"), query=(one, two)),
        route("header", Exact("/"), headers=(one,)),
        route("headers", Exact("/"), headers=(one, two)),
        route("method", Exact("/"), methods=("PUT",)),
    )
    head, heads = [(b"x-one", b"1")], [(b"x-one", b"1"), (b"x-two", b"2")]
    assert taken(found, "/") == "any"
    assert taken(found, "/", query=b"x-one=1&x-two=2") == "query"
    assert taken(found, "/", query=b"x-one=1&x-two=2", headers=head) == "header"
    assert taken(found, "/", headers=heads) == "headers"
    assert taken(found, "/", "PUT", headers=heads) == "method"


def test_a_repeated_header_is_one_joined_by_commas_and_of_parameters_the_first_counts() -> None:
    found = table(
        route("header", Exact("/"), headers=(Condition("x", "1,2"),)),
        route("query", Exact("/"), query=(Condition("x", "a b"),)),
    )
    assert taken(found, "/", headers=[(b"x", b"1"), (b"y", b"0"), (b"x", b"2")]) == "header"
    assert [taken(found, "/", query=query) for query in (b"x=a+b&x=c", b"x=a%20b", b"x=c&x=a+b")] == [
        "query",
        "query",
        404,
    ]


def test_of_equal_routes_the_older_is_taken_then_the_first() -> None:
    young, old = (200.0, "a/young"), (100.0, "z/old")
    assert (
        taken(table(route("young", Exact("/"), order=young), route("old", Exact("/"), order=old)), "/")
        == "old"
    )
    assert taken(table(route("first", Exact("/")), route("second", Exact("/"))), "/") == "first"


def test_the_most_precise_host_is_taken_and_hides_nothing() -> None:
    found = table(
        route("any", Prefix("/")),
        route("wide", Prefix("/"), hosts=("*.com",)),
        route("narrow", Prefix("/"), hosts=("*.example.com",)),
        route("precise", Exact("/x"), hosts=("A.example.com",)),
    )
    asked = [("a.example.com", "/x"), ("a.example.com", "/y"), ("b.a.example.com", "/x"), ("example.com", "/"), ("com", "/"), ("", "/")]  # fmt: skip
    assert [taken(found, path, host=host) for host, path in asked] == [
        "precise", "narrow", "narrow", "wide", "any", "any",
    ]  # fmt: skip


def test_a_star_is_one_label_under_ingress_and_more_elsewhere() -> None:
    found = table(
        route("ingress", Prefix("/"), hosts=("*.a.com",), source="ingress"),
        route("other", Prefix("/"), hosts=("*.b.com",), source="httproute"),
    )
    asked = ["x.a.com", "y.x.a.com", "a.com", "x.b.com", "y.x.b.com", "b.com", "X.A.com:8080", "x.a.com."]
    assert [taken(found, "/", host=host) for host in asked] == [
        "ingress", 404, 404, "other", "other", 404, "ingress", "ingress",
    ]  # fmt: skip


def test_requests_are_divided_by_weight_and_none_goes_where_it_is_zero() -> None:
    shares = (
        Weighted(FunctionBackend("a"), 70),
        Weighted(FunctionBackend("none"), 0),
        Weighted(FunctionBackend("b"), 30),
        Weighted(FunctionBackend("z"), 0),
    )
    found = RouteTable([route("split", Prefix("/"), backends=shares)], luck=Random(7).random)
    counts = Counter(
        got.backend.function
        for got in (match(found, "/") for _ in range(4000))
        if isinstance(got, Matched) and isinstance(got.backend, FunctionBackend)
    )
    assert set(counts) == {"a", "b"}
    assert counts["a"] / 4000 == pytest.approx(0.7, abs=0.03)


@pytest.mark.parametrize("luck", [0.0, 1 - 2**-53])
def test_the_ends_of_luck_hit_a_backend_that_has_a_weight(luck: float) -> None:
    shares = (
        Weighted(FunctionBackend("z"), 0),
        Weighted(FunctionBackend("a"), 1_000_000),
        Weighted(FunctionBackend("z"), 0),
    )
    got = match(RouteTable([route("split", Prefix("/"), backends=shares)], luck=lambda: luck), "/")
    assert isinstance(got, Matched)
    assert got.backend == FunctionBackend("a")


def test_where_no_backend_has_a_weight_the_answer_is_an_error() -> None:
    assert taken(table(route("none", Prefix("/"), backends=(Weighted(FunctionBackend("a"), 0),))), "/") == 500


def test_filters_of_the_route_come_before_those_of_the_backend() -> None:
    first, second = Headers(of="request", set=(("a", "1"),)), Headers(of="request", set=(("a", "2"),))
    backends = (Weighted(FunctionBackend("f"), 1, (second,)),)
    got = match(table(route("f", Prefix("/"), backends=backends, filters=(first,))), "/")
    assert isinstance(got, Matched)
    assert got.filters == (first, second)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"hosts": ("a.*.com",)}, "is not a name"),
        ({"path": Exact("a")}, "does not begin|is not a path"),
        ({"path": Pattern("/{a}/{a}")}, "twice"),
        ({"path": Pattern("/a{b}")}, "whole segment"),
        ({"methods": ("get",)}, "capitals"),
        ({"backends": ()}, "nowhere"),
        ({"backends": (Weighted(FunctionBackend("f"), -1),)}, "weight"),
        ({"backends": (Weighted(FunctionBackend("f"), 1_000_001),)}, "weight"),
        ({"backends": (Weighted(asking("quotes.{y}")),)}, "not a token of the path"),
        ({"backends": (Weighted(asking("{x}.quotes")),)}, "a token of your own"),
        ({"backends": (Weighted(asking("quotes.*")),)}, "bare wildcard"),
        ({"backends": (Weighted(Publish(Template.parse("deadletters.{x}"))),)}, "a token of your own"),
    ],
)
def test_a_route_that_cannot_be_is_refused_when_it_is_made(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        route(**{"name": "r", "path": Pattern("/{x}"), **wrong})


def test_a_path_of_many_thousand_segments_is_cut_no_further_than_routes_are_deep() -> None:
    found = table(route("prefix", Prefix("/a/b")), route("pattern", Pattern("/{x}/{y}/{z}")))
    assert taken(found, "/a/b" + "/c" * 10_000) == "prefix"
    assert taken(found, "/" + "a/" * 10_000) == 404
