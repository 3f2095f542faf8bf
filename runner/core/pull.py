"""How many messages a pull asks for.

Rule 1: room is reserved before a message is asked for: unsettled + outstanding never exceeds the limit.
Rule 2: the pull asks again once half of what may be outstanding has come, or once an eighth of the limit, and `FEWEST` at least, is
        lacking. So there are few requests while slots are rarely free. While they are free, the server always has a request to
        answer (worth a sixth of the rate, measured).
Rule 3: a server or a durable may cap what one request asks for: it refuses a larger request, and says the cap.
"""

from __future__ import annotations

import re

from msgspec import Struct, structs

UNCAPPED = 1 << 62
FEWEST = 8
"""The fewest messages to ask for while over half of what may be outstanding is: a request costs the server more than they do."""
_BATCH = re.compile(r"Exceeded MaxRequestBatch of ([0-9]{1,18})\Z")
_EXPIRES = re.compile(
    r"Exceeded MaxRequestExpires of ((?:[0-9]{1,12}(?:\.[0-9]{1,12})?(?:h|ms|m|us|µs|ns|s))+)\Z"
)
_BYTES = re.compile(r"Exceeded MaxRequestMaxBytes of ([0-9]{1,18})\Z")
_PART = re.compile(r"([0-9.]+)(h|ms|m|us|µs|ns|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
SHORTEST_SECONDS = 0.001


class Caps(Struct, frozen=True):
    """The most that one request may ask for."""

    batch: int = UNCAPPED
    """Messages."""
    expires: float = float("inf")
    """Seconds."""
    size: int = UNCAPPED
    """Bytes."""

    def told(self, text: str) -> Caps | None:
        """Add the cap that the text of a refusal says; None when the text says no cap."""
        if (match := _BATCH.match(text)) and int(match[1]) > 0:
            return structs.replace(self, batch=int(match[1]))
        if (match := _BYTES.match(text)) and int(match[1]) > 0:
            return structs.replace(self, size=int(match[1]))
        if match := _EXPIRES.match(text):
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(match[1]))
            return structs.replace(self, expires=seconds) if seconds >= SHORTEST_SECONDS else None
        return None


def request_size(limit: int, unsettled: int, outstanding: int) -> int:
    """Decide how many more messages to ask for now, or 0 to wait.

    `limit` is how many messages a function may hold, `unsettled` how many it holds, `outstanding` how many are on their way.
    """
    free = limit - unsettled
    lacking = free - outstanding
    if lacking <= 0 or (outstanding * 2 > free and lacking < max(limit / 8, FEWEST)):
        return 0
    return lacking
