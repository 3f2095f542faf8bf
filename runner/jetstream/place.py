"""Where a message was stored: stream and sequence, and the id or subject by which it is recognized there."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A message that was stored, and where."""

    stream: str
    sequence: int
    mark: str
    """Its Msg-Id, or else its subject."""
