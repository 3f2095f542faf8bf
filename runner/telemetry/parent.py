"""The span that a message was sent in, read quickly where its headers say of traces no more than a `traceparent`."""

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


Parent: TypeAlias = tuple[bytes, bytes, int, "bool | None"]
"""Its trace id, empty where a span begins a trace; the parent as `OwnSpan` writes it; flags; whether it is sampled, None without one.

A plain tuple: it is made for each traced message.
"""

NO_PARENT: Parent = (b"", _ROOT, 0, None)


def parent_of(header: bytes) -> Parent | None:
    """By a header block; None where that says more of traces, or says it in another way: then OpenTelemetry's own reading counts."""
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
