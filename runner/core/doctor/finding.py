"""Findings of `runner doctor`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Severity: TypeAlias = Literal["hurts", "may hurt"]


class Finding(Struct, frozen=True):
    """One thing that causes trouble, or may."""

    check: str
    """The check that found it: server, clock, rights, stream, durable or leftovers."""
    severity: Severity
    what: str
    """The setting or state that was found."""
    meaning: str
    """The consequences of it."""
    remedy: str
