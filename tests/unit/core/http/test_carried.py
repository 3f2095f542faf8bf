from __future__ import annotations

import pytest

from runner.core import header
from runner.core.http import carried


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x", b"a\r\nNats-Msg-Id: 1"),
        (b"x", b"a\nNats-Msg-Id: 1"),
        (b"x", b"a\x00"),
        (b"x\r\nnats-msg-id", b"1"),
        (b"x: y", b"1"),
        (b"", b"1"),
        (b"x y", b"1"),
        (b"nats-msg-id", b"1"),
        (b"jetrunner-http-caller", b"root"),
        (b"host", b"a"),
        (b"content-length", b"1"),
        (b"traceparent", b"00-1"),
        (b"te", b"trailers"),
    ],
)
def test_a_header_that_is_not_carried_leaves_nothing(name: bytes, value: bytes) -> None:
    assert carried.lines([(name, value)]) == b""


def test_what_connection_names_stays_at_the_connection() -> None:
    headers = [(b"connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"x-kept", b"2")]
    assert carried.lines(headers) == b"x-kept: 2\r\n"


def test_what_is_carried_is_read_as_it_was_written() -> None:
    headers = [(b"x-a", b" 1 "), (b"x-a", b"2"), (b"x-b", "é".encode()), (b"x-c", b"\xe9")]
    more = carried.asked("GET", b"/a%20b", b"q=1", b"a:80")
    block = b"NATS/1.0\r\n" + carried.lines(headers, more) + b"\r\n"
    assert header.pairs(block) == [
        ("x-a", "1"), ("x-a", "2"), ("x-b", "é"), ("x-c", "é"), ("Jetrunner-Http-Method", "GET"),
        ("Jetrunner-Http-Path", "/a%20b"), ("Jetrunner-Http-Query", "q=1"), ("Jetrunner-Http-Host", "a:80"),
    ]  # fmt: skip


def test_the_gateways_own_headers_hold_no_break_either() -> None:
    assert carried.lines([], [(b"Jetrunner-Http-Query", b"a\r\nb\x00c")]) == b"Jetrunner-Http-Query: abc\r\n"
