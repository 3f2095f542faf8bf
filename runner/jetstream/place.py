"""Where a message was stored, and what it is known by there."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A message that was stored, and where."""

    stream: str
    sequence: int
    mark: str
    """Its Msg-Id, or else its subject."""
