"""Which HTTP requests a function answers: method, path and host, as `@route` has them."""

from __future__ import annotations

import re

from msgspec import Struct

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
BODILESS = ("GET", "HEAD")
"""Methods whose requests have no body that means anything."""

_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")
"""What a segment of a path may hold, as RFC 3986 has it."""
_TOKEN = re.compile(r"\{([^{}]*)\}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class HttpEndpoint(Struct, frozen=True):
    """Made by `read`."""

    method: str
    path: str
    """As it is written, with its `{tokens}`."""
    host: str | None
    """None: every host."""
    names: tuple[str, ...]
    """Of its tokens, in their order."""
    auth: tuple[str, ...] = ()
    """Authentications of the project, of which one has to hold; empty: everybody may ask."""

    @property
    def text(self) -> str:
        """`GET /orders/{id}`, with its host before the path where it has one."""
        return f"{self.method} {self.host or ''}{self.path}"

    @property
    def shape(self) -> tuple[str, str, str]:
        """What two routes share that would answer the same requests: the names of tokens make no difference."""
        return self.method, self.host or "", _TOKEN.sub("{}", self.path)

    def params(self, path: str) -> dict[str, str] | None:
        """Find the tokens of a path as it came, not decoded; None where the path is another."""
        here, given = self.path.split("/"), path.split("/")
        if len(here) != len(given):
            return None
        found: dict[str, str] = {}
        for pattern, segment in zip(here, given, strict=True):
            if token := _TOKEN.fullmatch(pattern):
                if not segment:
                    return None
                found[token[1]] = segment
            elif pattern != segment:
                return None
        return found


def read(method: str, path: str, host: str | None) -> HttpEndpoint:
    """Check the three; ValueError says in one sentence what is wrong with them."""
    if method not in METHODS:
        known = f"{', '.join(METHODS[:-1])} or {METHODS[-1]}"
        raise ValueError(f"the method is {known}, not {method!r}")
    if not path.startswith("/"):
        raise ValueError(f"path {path!r}: it begins with a slash")
    names: list[str] = []
    segments = path[1:].split("/")
    for at, segment in enumerate(segments):
        if not segment and at < len(segments) - 1:
            raise ValueError(f"path {path!r}: a segment is empty")
        if segment in (".", ".."):
            raise ValueError(f"path {path!r}: no client asks for {segment!r}")
        if token := _TOKEN.fullmatch(segment):
            if not token[1].isidentifier():
                raise ValueError(f"path {path!r}: {segment} does not hold an identifier")
            if token[1] in names:
                raise ValueError(f"path {path!r}: {segment} stands in it twice")
            names.append(token[1])
        elif "{" in segment or "}" in segment:
            raise ValueError(f"path {path!r}: {{name}} is a whole segment, not a part of {segment!r}")
        elif not _SEGMENT.fullmatch(segment):
            raise ValueError(f"path {path!r}: {segment!r} cannot stand in a path; percent-encode it")
    return HttpEndpoint(method, path, None if host is None else _host(host), tuple(names))


def _host(text: str) -> str:
    name = text.lower()
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"host={text!r} is no name as example.com or *.example.com, without a port")
    return name
