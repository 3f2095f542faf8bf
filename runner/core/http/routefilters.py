"""The filters of an HTTPRoute, read into filters of a route.

A filter that is not known here makes its requests fail, as the specification demands: the filter may be there to keep clients
out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from runner.core.http import hostname
from runner.core.http import path as paths
from runner.core.http.backend import Redirect
from runner.core.http.cors import Cors
from runner.core.http.filters import Filter, Headers, Rewrite
from runner.core.http.manifest import Fault

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}")
_VALUE = re.compile(r"[^\x00-\x1f\x7f]{0,4096}")
_FRAMING = (
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
"""Headers that say where a message ends and to whom it goes; no filter may change them."""


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    value: str


class _Modifier(Struct, frozen=True, forbid_unknown_fields=True):
    set: tuple[_Header, ...] = ()
    add: tuple[_Header, ...] = ()
    remove: tuple[str, ...] = ()


class _Path(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: str | None = None
    replace_prefix_match: str | None = None


class _Rewrite(Struct, frozen=True, forbid_unknown_fields=True):
    hostname: str | None = None
    path: _Path | None = None


class _Redirect(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    scheme: Literal["http", "https"] | None = None
    hostname: str | None = None
    path: _Path | None = None
    port: int | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class _Cors(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    allow_origins: tuple[str, ...] = ()
    allow_credentials: bool = False
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int = 5


class GivenFilter(Struct, frozen=True, rename="camel"):
    """A filter as a manifest writes it."""

    type: str
    request_header_modifier: _Modifier | None = None
    response_header_modifier: _Modifier | None = None
    url_rewrite: _Rewrite | None = None
    request_redirect: _Redirect | None = None
    cors: _Cors | None = None


class Filters(Struct):
    """The result of reading the filters of a rule or of a backend."""

    filters: tuple[Filter, ...] = ()
    redirect: Redirect | None = None
    cors: Cors | None = None
    unknown: tuple[str, ...] = ()
    """Types of filters that are not known here; the requests get 500."""
    prefixed: bool = False
    """Whether a filter replaces the prefix; then all matches must be prefixes."""


_FIELDS = {
    "RequestHeaderModifier": "request_header_modifier",
    "ResponseHeaderModifier": "response_header_modifier",
    "URLRewrite": "url_rewrite",
    "RequestRedirect": "request_redirect",
    "CORS": "cors",
}


def read(given: Sequence[GivenFilter], place: tuple[str | int, ...]) -> Filters:
    """Read the filters of a rule or of a backend; `Fault` says which one is wrong."""
    found = Filters()
    seen: set[str] = set()
    for number, each in enumerate(given):
        inside = (*place, "filters", number)
        field = _FIELDS.get(each.type)
        if field is None:
            found.unknown = (*found.unknown, each.type)
            continue
        if each.type in seen:
            raise Fault(f"{each.type} stands here twice", inside)
        seen.add(each.type)
        value = getattr(each, field)
        if value is None:
            raise Fault(f"{each.type} has no settings", inside)
        _READ[each.type](found, value, inside)
    if {"URLRewrite", "RequestRedirect"} <= seen:
        raise Fault("URLRewrite and RequestRedirect stand together", place)
    return found


def _modifier(of: Literal["request", "response"]) -> Any:
    def add(found: Filters, value: _Modifier, place: tuple[str | int, ...]) -> None:
        for each in (*value.set, *value.add, *map(_removed, value.remove)):
            if not _NAME.fullmatch(each.name) or not _VALUE.fullmatch(each.value):
                raise Fault(f"{each.name!r} is not a header with a value of one line", place)
            if each.name.lower() in _FRAMING:
                raise Fault(f"{each.name} is not for a filter to change", place)
        headers = Headers(
            of=of,
            set=tuple((each.name.lower(), each.value) for each in value.set),
            add=tuple((each.name.lower(), each.value) for each in value.add),
            remove=tuple(map(str.lower, value.remove)),
        )
        found.filters = (*found.filters, headers)

    return add


def _removed(name: str) -> _Header:
    return _Header(name, "")


def _rewrite(found: Filters, value: _Rewrite, place: tuple[str | int, ...]) -> None:
    whole, prefix = _path(found, value.path, (*place, "urlRewrite", "path"))
    host = _host(value.hostname, (*place, "urlRewrite", "hostname"))
    found.filters = (*found.filters, Rewrite(host=host, path=whole, replace_prefix=prefix))


def _redirect(found: Filters, value: _Redirect, place: tuple[str | int, ...]) -> None:
    whole, prefix = _path(found, value.path, (*place, "requestRedirect", "path"))
    if value.port is not None and not 1 <= value.port <= 65_535:
        raise Fault(f"{value.port} is not a port", (*place, "requestRedirect", "port"))
    found.redirect = Redirect(
        status=value.status_code,
        scheme=value.scheme,
        host=_host(value.hostname, (*place, "requestRedirect", "hostname")),
        port=value.port,
        path=whole,
        replace_prefix=prefix,
    )


def _cors(found: Filters, value: _Cors, place: tuple[str | int, ...]) -> None:
    try:
        found.cors = Cors(
            origins=tuple(value.allow_origins),
            methods=tuple(value.allow_methods),
            headers=tuple(value.allow_headers),
            expose=tuple(value.expose_headers),
            credentials=value.allow_credentials,
            max_age=value.max_age,
        )
    except ValueError as error:
        raise Fault(str(error), (*place, "cors")) from None


def _host(name: str | None, place: tuple[str | int, ...]) -> str | None:
    if name is None:
        return None
    try:
        found = hostname.declared(name)
    except ValueError as error:
        raise Fault(str(error), place) from None
    if found.startswith("*"):
        raise Fault(f"{name!r} is a wildcard, and one host is needed", place)
    return found


def _path(found: Filters, value: _Path | None, place: tuple[str | int, ...]) -> tuple[str | None, str | None]:
    """The whole path of a filter, and the text that replaces a prefix; at least one of them is None."""
    if value is None:
        return None, None
    whole = value.type == "ReplaceFullPath"
    text = value.replace_full_path if whole else value.replace_prefix_match
    if text is None or (value.replace_full_path is None) == (value.replace_prefix_match is None):
        raise Fault(f"{value.type} needs its own value, and no other", place)
    try:
        encoded = paths.encoded(paths.declared(text)) if text or whole else ""
    except ValueError as error:
        raise Fault(f"{text!r}: {error}", place) from None
    found.prefixed |= not whole
    return (encoded, None) if whole else (None, encoded)


_READ: dict[str, Any] = {
    "RequestHeaderModifier": _modifier("request"),
    "ResponseHeaderModifier": _modifier("response"),
    "URLRewrite": _rewrite,
    "RequestRedirect": _redirect,
    "CORS": _cors,
}
