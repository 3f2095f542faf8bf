"""Whom a trusted proxy says a request is from, and who is believed nothing."""

from __future__ import annotations

import pytest

from runner.core.http.proxies import Proxies

PROXIES = Proxies(["10.0.0.0/8", "fd00::1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("9.9.9.9", "1.1.1.1", "9.9.9.9"),
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "1.1.1.1, 10.2.2.2, 10.3.3.3", "1.1.1.1"),
        ("10.0.0.1", "10.2.2.2", "10.2.2.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, unknown, 10.2.2.2", "10.2.2.2"),
        ("10.0.0.1", "1.1.1.1:4711", "1.1.1.1"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("fd00::1", "1.1.1.1", "1.1.1.1"),
        ("fd00::2", "1.1.1.1", "fd00::2"),
        ("", "1.1.1.1", ""),
    ],
)
def test_the_last_address_counts_that_is_no_proxys(peer: str, forwarded: str, client: str) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())]
    assert PROXIES.seen(peer, headers) == (client, "http")


def test_several_lines_are_one_list() -> None:
    headers = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"1.1.1.1, 10.2.2.2")]
    assert PROXIES.seen("10.0.0.1", headers) == ("1.1.1.1", "http")


@pytest.mark.parametrize(
    ("peer", "proto", "scheme"),
    [
        ("10.0.0.1", "https", "https"),
        ("10.0.0.1", "HTTPS", "https"),
        ("10.0.0.1", "http, https", "https"),
        ("10.0.0.1", "https, http", "http"),
        ("10.0.0.1", "javascript", "http"),
        ("9.9.9.9", "https", "http"),
    ],
)
def test_the_nearest_proxy_tells_the_scheme(peer: str, proto: str, scheme: str) -> None:
    assert PROXIES.seen(peer, [(b"x-forwarded-proto", proto.encode())])[1] == scheme


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="has host bits set"):
        Proxies(["10.0.0.1/8"])
    assert not Proxies([])
