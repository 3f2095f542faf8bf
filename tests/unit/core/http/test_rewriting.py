"""What filters do: paths by the specification's own table, headers, and where redirects lead."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.http import rewriting
from runner.core.http.backend import FunctionBackend, Redirect
from runner.core.http.filters import Headers, Rewrite
from runner.core.http.route import Exact, Path, Prefix, Route, Weighted


def route(path: Path) -> Route:
    return Route(name="r", path=path, backends=(Weighted(FunctionBackend("f")),))


@pytest.mark.parametrize(
    ("path", "prefix", "text", "expected"),
    [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/a/b", "/", "/x", "/x/a/b"),
        ("/%66oo/b%2Fc", "/foo", "/xyz", "/xyz/b%2Fc"),
        ("/foo//bar", "/foo", "/xyz", "/xyz//bar"),
    ],
)
def test_a_prefix_is_replaced_by_segments(path: str, prefix: str, text: str, expected: str) -> None:
    found = rewriting.path(path.encode(), route(Prefix(prefix)), Rewrite(replace_prefix=text))
    assert found.decode() == expected


def test_a_whole_path_takes_the_place_of_any() -> None:
    assert rewriting.rewritten(b"/a", route(Exact("/a")), (Rewrite(path="/b"), Rewrite(host="c"))) == b"/b"


def test_headers_are_removed_then_set_then_added() -> None:
    change = Headers(of="request", set=(("a", "2"),), add=(("b", "2"),), remove=("c",))
    other = Headers(of="response", remove=("a",))
    headers = [(b"a", b"1"), (b"A", b"kept"), (b"b", b"1"), (b"c", b"1"), (b"a", b"1")]
    found = rewriting.changed(headers, (change, other), "request")
    assert sorted(found) == [(b"A", b"kept"), (b"a", b"2"), (b"b", b"1"), (b"b", b"2")]


def test_a_rewritten_host_is_a_header_of_the_request_alone() -> None:
    filters = (Rewrite(host="b.com"),)
    assert rewriting.changed([(b"host", b"a.com")], filters, "request") == [(b"host", b"b.com")]
    assert rewriting.changed([(b"date", b"x")], filters, "response") == [(b"date", b"x")]


@pytest.mark.parametrize(
    ("redirect", "asked", "expected"),
    [
        ({}, ("http", "a.com"), "/foo/x?q=1"),
        ({}, ("http", "a.com:8080"), "/foo/x?q=1"),
        ({"scheme": "https"}, ("http", "a.com:8080"), "https://a.com/foo/x?q=1"),
        ({"scheme": "http"}, ("http", "a.com:8080"), "http://a.com/foo/x?q=1"),
        ({"port": 8443, "scheme": "https"}, ("http", "a.com"), "https://a.com:8443/foo/x?q=1"),
        ({"port": 80}, ("http", "a.com:8080"), "http://a.com/foo/x?q=1"),
        ({"host": "b.com"}, ("http", "a.com:8080"), "http://b.com:8080/foo/x?q=1"),
        ({"path": "/y"}, ("https", "a.com"), "/y?q=1"),
        ({"replace_prefix": "/y"}, ("https", "a.com"), "/y/x?q=1"),
        ({"port": 81}, ("http", "[::1]"), "http://[::1]:81/foo/x?q=1"),
        ({"scheme": "https"}, ("http", "[::1]:81"), "https://[::1]/foo/x?q=1"),
    ],
)
def test_a_redirect_keeps_what_it_does_not_say(
    redirect: dict[str, Any], asked: tuple[str, str], expected: str
) -> None:
    found = rewriting.location(Redirect(**redirect), route(Prefix("/foo")), *asked, b"/foo/x", b"q=1")
    assert found == expected


def test_a_path_of_two_slashes_stays_a_path_in_a_location() -> None:
    found = rewriting.location(Redirect(), route(Prefix("/")), "https", "a.com", b"//evil.com/x", b"")
    assert found == "https://a.com//evil.com/x"
