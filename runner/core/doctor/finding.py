"""What `runner doctor` tells: one thing that will hurt, or may."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Severity: TypeAlias = Literal["hurts", "may hurt"]


class Finding(Struct, frozen=True):
    """One of them."""

    check: str
    """What was looked at: server, clock, rights, stream, durable, leftovers."""
    severity: Severity
    what: str
    """As it stands there."""
    meaning: str
    """What follows from it."""
    remedy: str
