"""The head of a request: it is refused if two programs could read it in two ways, or if it costs too much."""

from __future__ import annotations

import re

from runner.gateway.limits import Limits

RULED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
"""The headers that `Head.take` checks."""

_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_UNFIT = re.compile(rb"[#\x00-\x20\x7f-\xff]")
_DIGITS = re.compile(rb"[0-9]{1,18}")


class Refused(Exception):  # noqa: N818  named by what happened
    """A request breaks a rule."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Head:
    """The head of one request, while it is read."""

    __slots__ = ("encodings", "expects", "hosts", "lengths", "limits", "size")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.hosts: list[bytes] = []
        self.encodings: list[bytes] = []
        self.lengths = 0
        self.size = 0
        self.expects = False

    def count(self, size: int) -> None:
        """Count `size` more bytes. Raises Refused."""
        self.size += size
        if self.size > self.limits.head_bytes:
            raise Refused(431, f"the head of a request has at most {self.limits.head_bytes:,} bytes")

    def take(self, name: bytes, value: bytes) -> None:
        """Check one of the headers in RULED; its name is in lower case. Raises Refused."""
        match name:
            case b"host":
                self.hosts.append(value)
            case b"content-length":
                self.lengths += 1
                if _DIGITS.fullmatch(value) is None:
                    raise Refused(400, "the Content-Length is not a number")
                if int(value) > self.limits.body_bytes:
                    raise Refused(413, f"a body has at most {self.limits.body_bytes:,} bytes")
            case b"transfer-encoding":
                self.encodings.append(value)
            case _:
                if value.lower() != b"100-continue":
                    raise Refused(417, "the only expectation is 100-continue")
                self.expects = True

    def check(self, version: str, method: bytes, url: bytes) -> bytes:
        """Check the head once all headers are here; gives the target as a path. Raises Refused."""
        if version not in ("1.0", "1.1"):
            raise Refused(505, "HTTP/1.1 is spoken here")
        self._check_framing(version)
        if len(self.hosts) > 1 or (not self.hosts and version != "1.0"):
            raise Refused(400, "a request has one Host")
        host = self.hosts[0] if self.hosts else b""
        if self.hosts and _AUTHORITY.fullmatch(host) is None:
            raise Refused(400, "the Host is not a host")
        if _UNFIT.search(url):
            raise Refused(400, "the target of the request has a character that it cannot have")
        if method == b"CONNECT":
            raise Refused(501, "no tunnels here")
        return url if url.startswith(b"/") else _path(method, url, host)

    def _check_framing(self, version: str) -> None:
        if self.lengths > 1:
            raise Refused(400, "a request has one Content-Length")
        if not self.encodings:
            return
        if self.lengths:
            raise Refused(400, "a request has a Content-Length or a Transfer-Encoding, not both")
        if version == "1.0":
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding")
        if len(self.encodings) > 1 or self.encodings[0].lower() != b"chunked":
            raise Refused(501, "the only Transfer-Encoding is chunked")


def _path(method: bytes, url: bytes, host: bytes) -> bytes:
    absolute = _ABSOLUTE.match(url)
    if absolute is None:
        if url != b"*" or method != b"OPTIONS":
            raise Refused(400, "the target of a request is a path")
        return b"/*"
    if absolute[1].lower() != host.lower():
        raise Refused(400, "the host of the target is not that of the Host header")
    rest = url[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest
