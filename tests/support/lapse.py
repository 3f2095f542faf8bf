"""What a server forgets when it comes back with an older store."""

from __future__ import annotations

from typing import NamedTuple


class Lapse(NamedTuple):
    """Moments of the monotonic clock: when the copy of the store was begun, and when the server had ended."""

    copied: float
    ended: float

    def forgot(self, sent: float, confirmed: float) -> bool:
        """Whether the server may have forgotten what it confirmed: what it had before the copy it has again."""
        return confirmed > self.copied and sent < self.ended
