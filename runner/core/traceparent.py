"""The W3C `traceparent` header: `00-<trace id>-<span id>-<flags>`."""

from __future__ import annotations

import re
from hashlib import blake2b

from msgspec import Struct

from runner.core import header

_ZERO_TRACE = "0" * 32
_ZERO_SPAN = "0" * 16
# Version 00 ends after the flags; a later version may go on after a dash, and ff is not a version.
_SHAPE = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

_EMPTY = blake2b(digest_size=16).copy
_NO_TRACE = bytes(16)
_ONE = bytes(15) + b"\x01"
_LINE = re.compile(rb"\r\n[tT]raceparent: (00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-)[0-9a-f]{2}\r\n")


class TraceParent(Struct, frozen=True, gc=False):
    """The span that a message was sent in."""

    trace_id: str
    """32 hex digits, never all zero."""
    span_id: str
    """16 hex digits, never all zero."""
    sampled: bool


def parse(value: bytes | str | None) -> TraceParent | None:
    """Read a header value; None when there is none or it is malformed, which starts a new trace."""
    if not value:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    found = _SHAPE.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if trace_id == _ZERO_TRACE or span_id == _ZERO_SPAN or (more is not None and version == "00"):
        return None
    return TraceParent(trace_id, span_id, flags[1] in "13579bdf")


def sent_in(block: bytes | None) -> TraceParent | None:
    """Find the span that a message was sent in by its headers; None when they name no span."""
    return parse(header.get(block, b"traceparent")) if block else None


def format(parent: TraceParent) -> str:  # noqa: A001  read as traceparent.format, the opposite of parse
    """Write the header value."""
    return f"00-{parent.trace_id}-{parent.span_id}-{'01' if parent.sampled else '00'}"


def unsampled_line(block: bytes) -> bytes | None:
    """Make the line of a header block with the same parent, not sampled; None when the block's own line has an unusual form."""
    found = _LINE.search(block)
    return b"traceparent: %b00\r\n" % found[1] if found is not None else None


def derived_trace_id(stream: str, sequence: int, timestamp_ns: int) -> str:
    """Make the trace id of a message that came without one: 32 hex digits, the same in every attempt."""
    return derived(f"{stream}:{sequence}.{timestamp_ns}".encode()).hex()


def derived(place: bytes) -> bytes:
    """Make that trace id as bytes, from `<stream>:<sequence>.<time>`."""
    digest = _EMPTY()  # copying an empty digest costs less than making one
    digest.update(place)
    found = digest.digest()
    return found if found != _NO_TRACE else _ONE


def derived_line(place: bytes) -> bytes:
    """Make the line of a header block with that trace id, not sampled."""
    trace_id = derived(place).hex()
    return f"traceparent: 00-{trace_id}-{trace_id[16:]}-00\r\n".encode()
