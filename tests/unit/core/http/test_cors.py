"""CORS: what a browser is told."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.http import cors
from runner.core.http.cors import Cors

APP = b"https://app.example.com"
Headers = list[tuple[bytes, bytes]]


def asking(origin: bytes | None = APP, method: bytes | None = None, headers: bytes | None = None) -> Headers:
    found = [
        (b"origin", origin),
        (b"access-control-request-method", method),
        (b"access-control-request-headers", headers),
    ]
    return [(name, value) for name, value in found if value is not None]


def told(headers: Headers) -> dict[str, str]:
    return {name.decode().removeprefix("access-control-"): value.decode() for name, value in headers}


ONE = Cors(
    origins=("https://app.example.com",), headers=("x-a", "content-type"), expose=("etag",), credentials=True
)
ALL = Cors(origins=("*",), headers=("*",), methods=("GET", "POST"), max_age=5)


def test_the_origin_is_told_by_name_with_vary() -> None:
    assert told(cors.answered(ONE, asking())) == {
        "allow-origin": "https://app.example.com",
        "allow-credentials": "true",
        "expose-headers": "etag",
        "vary": "origin",
    }


def test_who_may_not_ask_is_told_nothing_but_vary() -> None:
    for origin in (
        b"https://evil.com",
        b"https://app.example.com.evil.com",
        b"http://app.example.com",
        b"null",
        None,
    ):
        assert told(cors.answered(ONE, asking(origin))) == {"vary": "origin"}


def test_where_all_may_ask_the_answer_is_the_same_for_all() -> None:
    assert told(cors.answered(ALL, asking())) == {"allow-origin": "*"}
    assert told(cors.answered(ALL, asking(b"null"))) == {"allow-origin": "*"}
    assert told(cors.answered(ALL, asking(None))) == {}


def test_a_preflight_is_answered_with_the_method_that_it_asks_for_and_the_headers_there_are() -> None:
    found = told(cors.preflight(ONE, asking(method=b"PUT", headers=b"x-a, x-b")))
    assert found == {
        "allow-origin": "https://app.example.com",
        "allow-credentials": "true",
        "allow-methods": "PUT",
        "allow-headers": "x-a, content-type",
        "max-age": "600",
        "vary": "origin, access-control-request-method, access-control-request-headers",
    }


def test_a_star_for_headers_repeats_what_was_asked_for() -> None:
    found = told(cors.preflight(ALL, asking(method=b"PUT", headers=b"x-a, x-b")))
    assert (found["allow-methods"], found["allow-headers"], found["max-age"]) == (
        "GET, POST",
        "x-a, x-b",
        "5",
    )
    assert "allow-headers" not in told(cors.preflight(ALL, asking(method=b"PUT")))
    assert "allow-headers" not in told(cors.preflight(ALL, asking(method=b"PUT", headers=b"x-a\r\nb: c")))


def test_a_preflight_of_who_may_not_ask_says_nothing_but_vary() -> None:
    assert list(told(cors.preflight(ONE, asking(b"https://evil.com", b"PUT")))) == ["vary"]


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("OPTIONS", asking(method=b"PUT"), "PUT"),
        ("GET", asking(method=b"PUT"), None),
        ("OPTIONS", asking(), None),
        ("OPTIONS", asking(None, b"PUT"), None),
        ("OPTIONS", asking(method=b"P UT"), None),
        ("OPTIONS", asking(method=b"P\xff"), None),
        ("OPTIONS", asking(method=b"PUT") + asking(None, b"GET"), None),
    ],
)
def test_a_preflight_is_options_with_an_origin_and_a_method(
    method: str, headers: Headers, expected: str | None
) -> None:
    assert cors.requested_method(method, headers) == expected


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://a.example.com", True),
        ("https://b.a.example.com", True),
        ("https://example.com", False),
        ("https://.example.com", False),
        ("https://evil.com/.example.com", False),
        ("https://evil.com:1.example.com", False),
        ("https://a.example.com:8443", False),
        ("http://a.example.com", False),
        ("https://aexample.com", False),
        ("https://a.example.com.evil.com", False),
    ],
)
def test_a_star_in_an_origin_stands_for_labels(origin: str, *, allowed: bool) -> None:
    assert Cors(origins=("https://*.example.com",)).allows(origin) == allowed


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"origins": ()}, "name who may ask"),
        ({"origins": ("app.example.com",)}, "is not an origin"),
        ({"origins": ("https://a.com/",)}, "is not an origin"),
        ({"origins": ("https://a.com/x",)}, "is not an origin"),
        ({"origins": ("*",), "credentials": True}, "every page could ask"),
        ({"methods": ("G T",)}, "is not a word"),
        ({"headers": ("a\r\n",)}, "is not a word"),
        ({"expose": ("",)}, "is not a word"),
        ({"max_age": -1}, "max_age"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Cors(**{"origins": ("https://a.com",), **wrong})
