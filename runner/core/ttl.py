"""How long a message lives, as its header `Nats-TTL` says: `1h30m`, a number of seconds, or `never`."""

from __future__ import annotations

import re

from runner.core import quantity

HEADER = "Nats-TTL"
LONGEST = 40
MOST = 9_223_372_036
"""Seconds in the nanoseconds that 64 bits hold."""
_DURATION = re.compile(rf"(?:{quantity.NUMBER}(?:h|ms|m|s|us|µs|ns))+")
_SECONDS = re.compile(r"[0-9]+")


def is_taken(text: str) -> bool:
    """Tell whether the server takes a TTL: it has to be at least a second."""
    if len(text) > LONGEST:
        return False
    if _SECONDS.fullmatch(text):
        return 1 <= int(text) <= MOST
    if _DURATION.fullmatch(text):
        return 1 <= quantity.seconds(text) <= MOST
    return text.lower() == "never"
