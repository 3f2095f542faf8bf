"""The place of a stored message: stream and sequence, and the mark by which it is recognized there."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """The place of a stored message."""

    stream: str
    sequence: int
    mark: str
    """Its Msg-Id, or else its subject."""
