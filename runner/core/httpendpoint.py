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
    """The HTTP requests that one function answers; made by `read`."""

    method: str
    path: str
    """As it is written, with its `{tokens}`."""
    host: str | None
    """The host that must be asked; None: every host."""
    names: tuple[str, ...]
    """The names of its tokens, in order."""
    auth: tuple[str, ...] = ()
    """Authentications of the project; one of them has to accept the caller. Empty: everybody may ask."""

    @property
    def text(self) -> str:
        """The endpoint as text: `GET /orders/{id}`; a host stands before the path."""
        return f"{self.method} {self.host or ''}{self.path}"

    @property
    def shape(self) -> tuple[str, str, str]:
        """A value that is equal for two routes that would answer the same requests: names of tokens make no difference."""
        return self.method, self.host or "", _TOKEN.sub("{}", self.path)

    def params(self, path: str) -> dict[str, str] | None:
        """Find the tokens in a path as it came, not decoded; None when the path does not match."""
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
    """Check method, path and host; ValueError says in one sentence what is wrong with them."""
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
        raise ValueError(
            f"host={text!r} is not a host name like example.com or *.example.com, without a port"
        )
    return name
