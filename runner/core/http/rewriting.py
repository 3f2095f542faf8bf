"""Rewriting: what filters do to paths and headers, and the `Location` of a redirect."""

from __future__ import annotations

from collections.abc import Iterable

from runner.core.http import path as paths
from runner.core.http.backend import Redirect
from runner.core.http.filters import Filter, Headers, Rewrite
from runner.core.http.route import Prefix, Route

_PORTS = {"http": 80, "https": 443}


def path(raw: bytes, route: Route, change: Rewrite | Redirect) -> bytes:
    """The path after a rewrite, percent-encoded; the rest after a replaced prefix stays as it came."""
    if change.path is not None:
        return change.path.encode()
    if change.replace_prefix is None or not isinstance(route.path, Prefix):
        return raw
    return _replaced(raw, route.path, change.replace_prefix).encode()


def rewritten(raw: bytes, route: Route, filters: Iterable[Filter]) -> bytes:
    """The path for the backend, after all filters."""
    for each in filters:
        if isinstance(each, Rewrite):
            raw = path(raw, route, each)
    return raw


def changed(
    headers: Iterable[tuple[bytes, bytes]], filters: Iterable[Filter], of: str
) -> list[tuple[bytes, bytes]]:
    """The headers of a request or a response (`of`) after all its filters; names are in lower case."""
    found = list(headers)
    for each in filters:
        if isinstance(each, Rewrite) and each.host is not None and of == "request":
            found = _set(found, {b"host": each.host.encode()})
        if isinstance(each, Headers) and each.of == of:
            gone = {name.encode() for name in each.remove}
            found = [pair for pair in found if pair[0] not in gone]
            found = _set(found, {name.encode(): value.encode() for name, value in each.set})
            found += [(name.encode(), value.encode()) for name, value in each.add]
    return found


def location(redirect: Redirect, route: Route, scheme: str, host: str, raw: bytes, query: bytes) -> str:
    """The `Location` of a redirect. `host` is the value of `Host` that was matched, with or without a port.

    If scheme, host and port stay, it is a path alone: when TLS ends in front of us, the scheme that we see is not the client's.
    A redirect to a named scheme has that scheme's port; without one, the request's port stays.
    """
    found = path(raw, route, redirect).decode("ascii") + (f"?{query.decode('latin-1')}" if query else "")
    stays = redirect.scheme is None and redirect.host is None and redirect.port is None
    if stays and not found.startswith("//"):  # two slashes would begin a host
        return found
    asked, _, asked_port = _divided(host)
    target = redirect.scheme or scheme
    if redirect.port is not None:
        port = redirect.port
    elif redirect.scheme is not None:
        port = _PORTS[target]
    else:
        port = int(asked_port or _PORTS[target])
    name = redirect.host or asked
    shown = "" if port == _PORTS[target] else f":{port}"
    return f"{target}://{name}{shown}{found}"


def _divided(host: str) -> tuple[str, str, str]:
    if host.endswith("]"):
        return host, "", ""
    name, colon, port = host.rpartition(":")
    return (name, colon, port) if colon else (port, "", "")


def _replaced(raw: bytes, prefix: Prefix, text: str) -> str:
    """Replace a prefix by segments: as many are cut off as the prefix has, however each of them is encoded."""
    count = paths.declared(prefix.path).rstrip("/").count("/")
    rest = raw.decode("ascii").split("/")[1 + count :]
    if not rest:
        return text or "/"
    return text.rstrip("/") + "/" + "/".join(rest)


def _set(headers: list[tuple[bytes, bytes]], values: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0] not in values] + list(values.items())
