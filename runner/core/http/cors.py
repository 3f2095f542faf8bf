"""CORS: what a browser is told about who may ask."""

from __future__ import annotations

from msgspec import Struct


class Cors(Struct, frozen=True, kw_only=True):
    """Who may ask from a page of another origin."""

    origins: tuple[str, ...]
    """As `https://app.example.com`, compared whole; `*` alone stands for all."""
    methods: tuple[str, ...] = ()
    """Of a preflight's answer; empty: those of the route."""
    headers: tuple[str, ...] = ()
    """Headers that a page may send beyond the simple ones; `*` alone stands for all but Authorization."""
    expose: tuple[str, ...] = ()
    """Headers of the response that a page may read."""
    credentials: bool = False
    """Whether a page may send cookies; never with the origin `*`."""
    max_age: int = 600
    """Seconds that a browser may remember a preflight's answer."""
