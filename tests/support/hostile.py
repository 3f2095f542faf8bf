"""Clients that mean harm, are broken or slow, and what each gets: the tests try them, and a page of the docs is made of them.

Each row is what a client says over a bare socket, and the status of its answer.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Rows: TypeAlias = dict[str, tuple[int, bytes]]

HUGE = b"x" * 5_000

REFUSED: dict[str, Rows] = {
    "Host confusion": {
        "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
        "two Hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        "the same Host twice": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        "a Host with a path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        "a Host with a user": (400, b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
        "an empty Host": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        "a Host with a space": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        "a target of another host": (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    },
    "Smuggling": {
        "both lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "both lengths, the other way": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
        "two lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        "the same length twice": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        "a list of lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na"),
        "a length with a sign": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"),
        "a negative length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na"),
        "a length in hexadecimal": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na"),
        "a length with an underscore": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\na"),
        "an empty length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\na"),
        "a length beyond 64 bits": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        "an encoding that hides": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        "two encodings": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        "an encoding before chunked": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        "a space before the colon": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        "an encoding in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "a chunk size with a sign": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n"),
        "a chunk size with 0x": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"),
        "a chunk longer than it says": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"),
    },
    "Bad framing": {
        "a line feed alone": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
        "a carriage return alone": (400, b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
        "a folded header": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        "a NUL in a header": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n"),
        "a NUL in a name": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: a\r\n\r\n"),
        "a header without a name": (400, b"GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n"),
        "a header without a colon": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
        "no HTTP": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 50),
        "HTTP/2 at once": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        "HTTP/0.9": (505, b"GET /\r\n\r\n"),
        "HTTP/1.2": (400, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        "a method that is none": (400, b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    },
    "Targets that are no path": {
        "a target that is not a path": (400, b"GET good HTTP/1.1\r\nHost: a\r\n\r\n"),
        "a target with a fragment": (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
        "a target beyond ASCII": (400, "GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode()),
        "a target with a NUL": (400, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
        "a target with a space": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        "an asterisk without OPTIONS": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    },
    "Heads and bodies that are too large": {
        "a header that is too long": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + HUGE + b"\r\n\r\n"),
        "a header without an end": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + HUGE),
        "a target that is too long": (431, b"GET /" + HUGE + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
        "too many headers": (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X%d: a\r\n" % at for at in range(30)) + b"\r\n"),
        "a long head that comes after a body": (431, b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na" + b"GET / HTTP/1.1\r\nHost: a\r\nX: " + HUGE + b"\r\n\r\n"),
        "a body that is too long": (413, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10001\r\n\r\n"),
        "a body that is too long, and expects": (413, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10001\r\nExpect: 100-continue\r\n\r\n"),
        "chunks that are too long": (413, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n0\r\n\r\n"),
        "a trailer that is too long": (431, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + HUGE + b"\r\n\r\n"),
        "a trailer without an end": (431, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + HUGE),
    },
    "What is not spoken here": {
        "a tunnel": (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        "a WebSocket": (400, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"),
        "another expectation": (417, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: a-miracle\r\n\r\n"),
    },
}  # fmt: skip
"""What the connection refuses before anything else sees it; the limits of the test are 4 KiB, 20 headers and 10,000 bytes."""


class Slow(NamedTuple):
    """A client that takes its time."""

    says: bytes
    drips: bytes = b""
    """Said again and again, with a pause before each."""
    gets: int = 408
    """0: it is cut off without an answer."""
    first: int = 0
    """Answers with 200 before that."""


SLOW: dict[str, Slow] = {
    "says nothing": Slow(b"", gets=0),
    "half a head, and no more": Slow(b"GET / HTTP/1.1\r\nHost: a\r\nX"),
    "line breaks alone": Slow(b"\r\n\r\n", drips=b"\r\n"),
    "half a request line, and no more": Slow(b"GET / HT"),
    "a head that comes a byte at a time": Slow(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", drips=b"x"),
    "headers without an end, one at a time": Slow(b"GET / HTTP/1.1\r\nHost: a\r\n", drips=b"X: y\r\n"),
    "half of a second head": Slow(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET / HT", first=1),
    "a body that stops": Slow(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\na"),
    "a body that comes a byte at a time": Slow(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n", drips=b"x"),
    "a chunk that stops": Slow(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na"),
    "chunks of one byte": Slow(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", drips=b"1\r\nx\r\n"),
    "trailers without an end, one at a time": Slow(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", drips=b"X: y\r\n"),
}  # fmt: skip


class Injected(NamedTuple):
    """A well-formed request that would be more than a request."""

    says: bytes
    gets: int
    unseen: str = ""
    """What the function behind it does not find in what it is told."""
    told: str = ""
    """The same in words."""
    found: str = ""
    """What it does find."""


def get(path: bytes, *headers: bytes, host: bytes = b"example.com") -> bytes:
    """A request."""
    return b"\r\n".join(
        (b"GET " + path + b" HTTP/1.1", b"Host: " + host, *headers, b"Connection: close", b"", b"")
    )


INJECTED: dict[str, Injected] = {
    "a header of the server's": Injected(get(b"/seen", b"Nats-Msg-Id: planted"), 200, "planted", "dropped"),
    "one in other letters": Injected(get(b"/seen", b"nAtS-rOLLup: planted"), 200, "planted", "dropped"),
    "a header of ours that says who asks": Injected(get(b"/seen", b"Jetrunner-Http-Caller: planted"), 200, "planted", "dropped"),
    "a deadline": Injected(get(b"/seen", b"Jetrunner-Deadline: 987654321"), 200, "987654321", "dropped"),
    "a header that Connection names": Injected(get(b"/seen", b"X-Hop: planted", b"Connection: X-Hop"), 200, "planted", "dropped"),
    "a line break in a path, encoded": Injected(get(b"/seen/%0d%0aNats-Msg-Id:%20planted"), 400),
    "a line break in a query, encoded": Injected(get(b"/seen?a=%0d%0aNats-Msg-Id:%20planted"), 200, "Nats-Msg-Id: planted", "text of the query, as it came"),
    "a trace that is none": Injected(get(b"/seen", b"traceparent: 00-planted-01"), 200, "planted", "dropped; a trace of its own"),
    "an id with a line break, folded": Injected(get(b"/seen", b"X-Request-Id: a", b" Nats-Msg-Id: planted"), 400),
    "a token with a dot": Injected(get(b"/token/a.b"), 400),
    "a token that is a star": Injected(get(b"/token/*"), 400),
    "a token that is >, encoded": Injected(get(b"/token/%3E"), 400),
    "a token with a space, encoded": Injected(get(b"/token/a%20b"), 400),
    "a token with a line break, encoded": Injected(get(b"/token/a%0d%0aPUB"), 400),
    "a token with a no-break space": Injected(get(b"/token/a%C2%A0b"), 400),
    "an empty token": Injected(get(b"/token/"), 404),
    "a subject of the server's": Injected(get(b"/token/$JS.API.STREAM.DELETE.ORDERS"), 400),
    "a token of 4,000 bytes": Injected(get(b"/token/" + b"a" * 4_000), 400),
    "a token with an encoded slash": Injected(get(b"/token/a%2Fb"), 200, "", "one token, `a/b`", '"token":"a/b"'),
    "a token that is encoded twice": Injected(get(b"/token/a%252Eb"), 200, "", "one token, `a%2Eb`", '"token":"a%2Eb"'),
    "dot segments": Injected(get(b"/token/../seen"), 400),
    "dot segments, encoded": Injected(get(b"/token/%2e%2e/seen"), 400),
    "a NUL in a path, encoded": Injected(get(b"/seen/%00"), 400),
    "bytes that are not UTF-8": Injected(get(b"/seen/%ff"), 400),
    "an overlong slash": Injected(get(b"/seen%c0%afx"), 400),
    "another host": Injected(get(b"/seen", host=b"other.com"), 404),
    "another host, named by X-Forwarded-Host": Injected(get(b"/seen", b"X-Forwarded-Host: example.com", host=b"other.com"), 404),
    "a host with a port of another": Injected(get(b"/seen", host=b"example.com:99"), 200, "", "the port says nothing"),
    "a host with a dot at its end": Injected(get(b"/seen", host=b"example.com."), 200, "", "the same host"),
    "a method by another header": Injected(get(b"/seen", b"X-HTTP-Method-Override: DELETE"), 200, '"Jetrunner-Http-Method":"DELETE"', "it stays a GET", '"Jetrunner-Http-Method":"GET"'),
    "a key that is empty": Injected(get(b"/seen", b"Idempotency-Key: "), 400),
    "two keys": Injected(get(b"/seen", b"Idempotency-Key: a", b"Idempotency-Key: b"), 400),
}  # fmt: skip
"""Asked of an edge with a route `/seen` to a function that tells what it was told, and `/token/{token}` to the subject `token.{token}`, both of the host `example.com`."""
