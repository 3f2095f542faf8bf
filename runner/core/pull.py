"""How many messages to ask for.

Rule 1: room is reserved before a message is asked for: unsettled + outstanding never exceeds the limit.
Rule 2: ask again once half of what may be outstanding has come, or an eighth of the limit and `FEWEST`: requests stay few
        where slots are rarely free, and the server always has one to answer where they are (a sixth of the rate, measured).
Rule 3: a server, and a durable, may cap what one request asks for: it refuses the request, and says the cap.
"""

from __future__ import annotations

import re

from msgspec import Struct, structs

UNCAPPED = 1 << 62
FEWEST = 8
"""Messages that are asked for while more than half of what may be outstanding is: a request costs the server more than they do."""
_BATCH = re.compile(r"Exceeded MaxRequestBatch of ([0-9]{1,18})\Z")
_EXPIRES = re.compile(
    r"Exceeded MaxRequestExpires of ((?:[0-9]{1,12}(?:\.[0-9]{1,12})?(?:h|ms|m|us|µs|ns|s))+)\Z"
)
_BYTES = re.compile(r"Exceeded MaxRequestMaxBytes of ([0-9]{1,18})\Z")
_PART = re.compile(r"([0-9.]+)(h|ms|m|us|µs|ns|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
SHORTEST_SECONDS = 0.001


class Caps(Struct, frozen=True):
    """What one request may ask for at most."""

    batch: int = UNCAPPED
    """Messages."""
    expires: float = float("inf")
    """Seconds."""
    size: int = UNCAPPED
    """Bytes."""

    def told(self, text: str) -> Caps | None:
        """Give the same with the cap that a refusal says; None where it says none."""
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

    `limit` is how many a function may hold, `unsettled` how many it holds, `outstanding` how many are on their way.
    """
    free = limit - unsettled
    lacking = free - outstanding
    if lacking <= 0 or (outstanding * 2 > free and lacking < max(limit / 8, FEWEST)):
        return 0
    return lacking
