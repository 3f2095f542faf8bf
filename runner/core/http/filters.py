"""Filters: how a route changes a request on its way in, and a response on its way out."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct


class Headers(Struct, frozen=True, kw_only=True):
    """A filter that removes headers, then sets some, then adds some; names are in lower case."""

    of: Literal["request", "response"]
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class Rewrite(Struct, frozen=True, kw_only=True):
    """A filter that gives the backend another path or host; a part that is None stays as in the request."""

    host: str | None = None
    path: str | None = None
    """A whole path, percent-encoded."""
    replace_prefix: str | None = None
    """The text that replaces the prefix that the route has matched; never together with `path`."""


Filter: TypeAlias = Headers | Rewrite
