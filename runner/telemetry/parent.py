"""The parent span of a message, read quickly if the message has no trace headers besides a `traceparent`."""

from __future__ import annotations

import re
from binascii import unhexlify
from typing import TypeAlias

from runner.core import otlp
from runner.telemetry.ownspan import RANDOM, SAMPLED

_ROOT = otlp.parent(None, remote=False)
_REMOTE = otlp.parent(bytes(8), remote=True)[:-8]
_TRACEPARENT = re.compile(
    rb"\r\n[tT]raceparent: 00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})\r\n"
)


SpanParent: TypeAlias = tuple[bytes, bytes, int, "bool | None"]
"""Trace id, empty if the span begins a trace; the parent as `OwnSpan` writes it; flags; whether the parent is sampled, None without one.

It is a plain tuple because one is made for each traced message.
"""

NO_PARENT: SpanParent = (b"", _ROOT, 0, None)


def parent_of(header: bytes) -> SpanParent | None:
    """Read the parent from a header block; None if it has other trace headers, or an unusual one: then OpenTelemetry has to read it."""
    lower = header.lower()
    at = lower.find(b"traceparent")
    if b"tracestate" in lower or b"baggage" in lower or b"jetrunner-origin" in lower:
        return None
    if at < 0:
        return NO_PARENT
    found = _TRACEPARENT.match(header, max(0, at - 2))
    if found is None or lower.find(b"traceparent", at + 11) >= 0:
        return None
    flags = int(found[3], 16)
    return unhexlify(found[1]), _REMOTE + unhexlify(found[2]), flags & RANDOM, bool(flags & SAMPLED)
