"""Hosts: one form, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.http import hostname


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com", "example.com"),
        ("example.com:8080", "example.com"),
        ("example.com.", "example.com"),
        ("example.com.:80", "example.com"),
        ("example.com:", "example.com"),
        ("", ""),
        (":80", ""),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("[FE80::1]", "[fe80::1]"),
        ("my_service", "my_service"),
    ],
)
def test_case_port_and_the_dot_at_the_end_are_left_away(host: str, expected: str) -> None:
    assert hostname.normal(host) == expected


@pytest.mark.parametrize(
    "host",
    [
        "a b", "a/b", "a@b", "a..b", ".a", "a:b", "a:80:80", "::1", "[::1", "a,b", "a\n", "exämple.com", "*.a.com", "a?b", "a:123456",
        "x" * 64, "a." * 127 + "aa", "..",
    ],
)  # fmt: skip
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="the host"):
        hostname.normal(host)


@given(st.text(max_size=20))
def test_whatever_comes_is_in_one_form_or_refused(host: str) -> None:
    try:
        found = hostname.normal(host)
    except ValueError:
        return
    assert hostname.normal(found) == found == found.lower()


@pytest.mark.parametrize(
    "host",
    ["", "*", "*.", "a.*", "*a.com", "a.*.com", "*.*.com", "a.com:80", "a.com.", "a b", "http://a.com"],
)
def test_a_route_has_names_and_wildcards_of_whole_first_labels(host: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        hostname.declared(host)
