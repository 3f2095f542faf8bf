"""Filters: what a route changes of a request on its way in, and of a response on its way out."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct


class Headers(Struct, frozen=True, kw_only=True):
    """Headers that are removed, then set, then added; names are in lower case."""

    of: Literal["request", "response"]
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class Rewrite(Struct, frozen=True, kw_only=True):
    """Another path or host for whoever answers; what is None stays as it was asked."""

    host: str | None = None
    path: str | None = None
    """A whole path, percent-encoded."""
    replace_prefix: str | None = None
    """What takes the place of the prefix that the route has matched; never together with `path`."""


Filter: TypeAlias = Headers | Rewrite
