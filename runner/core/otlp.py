"""Spans in the bytes of OTLP: protobuf, field by field.

An ExportTraceServiceRequest holds ResourceSpans, these hold ScopeSpans, and these hold spans. The functions here write fields, with
tag and length: the fields of one message may stand in any order, and two requests one after the other are one request.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import TypeAlias

Value: TypeAlias = str | bool | int | float

# Kinds of spans.
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(1, 6)
# Statuses of spans.
UNSET, OK, ERROR = range(3)

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_FIXED32, _FIXED64, _DOUBLE = Struct("<I"), Struct("<Q"), Struct("<d")
_SHORT = tuple(bytes((number,)) for number in range(128))
# Tags: the field's number, and how its value is written.
_TRACE_ID, _SPAN_ID, _STATE, _PARENT, _NAME, _KIND = b"\x0a", b"\x12", b"\x1a", b"\x22", b"\x2a", b"\x30"
_START, _END, _ATTRIBUTE, _EVENT, _LINK, _STATUS = b"\x39", b"\x41", b"\x4a", b"\x5a", b"\x6a", b"\x7a"
_FLAGS = b"\x85\x01"
_EVENT_ATTRIBUTE = b"\x1a"
# Flags of a span: it is known whether the parent came from another process; the parent did.
_KNOWN, _REMOTE = 0x100, 0x200


def varint(number: int) -> bytes:
    """Write an integer; a negative one as its two's complement of 64 bits."""
    if 0 <= number < 128:
        return _SHORT[number]
    number &= 0xFFFF_FFFF_FFFF_FFFF
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


def sized(tag: bytes, content: bytes) -> bytes:
    """Write a field of bytes, text or a message."""
    return b"%b%b%b" % (tag, varint(len(content)), content)


def attribute(key: str, value: Value, tag: bytes = _ATTRIBUTE) -> bytes:
    """Write an attribute of a span; nothing for an integer that OTLP cannot hold."""
    if isinstance(value, str):
        written = sized(b"\x0a", value.encode("utf-8", "replace"))
    elif isinstance(value, bool):
        written = b"\x10\x01" if value else b"\x10\x00"
    elif isinstance(value, int):
        if not _LEAST <= value <= _MOST:
            return b""
        written = b"\x18" + varint(value)
    else:
        written = b"\x21" + _DOUBLE.pack(value)
    return sized(tag, sized(b"\x0a", key.encode()) + sized(b"\x12", written))


def attributes(given: Mapping[str, Value], tag: bytes = _ATTRIBUTE) -> bytes:
    """Write attributes."""
    return b"".join([attribute(key, value, tag) for key, value in given.items()])


class TextAttribute:
    """A span's attribute whose value is any text: the bytes before the value, made beforehand for each length of it."""

    __slots__ = ("_key", "heads")

    def __init__(self, key: str, longest: int) -> None:
        self._key = sized(b"\x0a", key.encode())
        self.heads = tuple(self._head(length) for length in range(longest + 1))
        """The bytes before a value; the index is the number of the value's bytes."""

    def _head(self, length: int) -> bytes:
        text = b"\x0a" + varint(length)
        value = b"\x12" + varint(len(text) + length) + text
        return _ATTRIBUTE + varint(len(self._key) + len(value) + length) + self._key + value


def event(name: str, time_ns: int, given: Mapping[str, Value]) -> bytes:
    """Write an event of a span."""
    content = b"\x09" + _FIXED64.pack(time_ns) + sized(b"\x12", name.encode())
    return sized(_EVENT, content + attributes(given, _EVENT_ATTRIBUTE))


def link(trace_id: bytes, span_id: bytes) -> bytes:
    """Write a link of a span to a span of another process."""
    content = sized(_TRACE_ID, trace_id) + sized(_SPAN_ID, span_id)
    return sized(_LINK, content + b"\x35" + _FIXED32.pack(_KNOWN | _REMOTE))


def status(code: int, message: str = "") -> bytes:
    """Write a span's status."""
    text = sized(b"\x12", message.encode("utf-8", "replace")) if message else b""
    return sized(_STATUS, text + (b"\x18" + varint(code) if code else b""))


def parent(span_id: bytes | None, *, remote: bool) -> bytes:
    """Write a span's flags and the id of its parent, which comes last; a root has flags alone."""
    if span_id is None:
        return _FLAGS + _FIXED32.pack(_KNOWN)
    return _FLAGS + _FIXED32.pack(_KNOWN | _REMOTE if remote else _KNOWN) + sized(_PARENT, span_id)


def kind(number: int, name: str) -> bytes:
    """Write a span's kind and name."""
    return sized(_NAME, name.encode("utf-8", "replace")) + _KIND + varint(number)


def state(text: str) -> bytes:
    """Write a span's tracestate."""
    return sized(_STATE, text.encode())


_IDS = Struct("<2s16s2s8scQcQ")


def ids(trace_id: bytes, span_id: bytes, start_ns: int, end_ns: int) -> bytes:
    """Write a span's ids and times."""
    return _IDS.pack(b"\x0a\x10", trace_id, b"\x12\x08", span_id, _START, start_ns, _END, end_ns)


def request(resource: bytes, scope: bytes, spans: list[bytes], length: int) -> list[bytes]:
    """Write a request with spans of one resource and scope; `spans` are fields or pieces of fields, `length` bytes in all.

    The result is in pieces, too, because a request is large, and is to be copied only once.
    """
    scoped = b"\x12" + varint(len(scope) + length) + scope
    return [b"\x0a", varint(len(resource) + len(scoped) + length), resource, scoped, *spans]


_ACKED_IDS = Struct("<2s16s2s8scQcQ3sQ13s")
ACKED = attribute("jetrunner.outcome", "ack") + status(UNSET)
"""The other fields of an attempt that has succeeded."""


def acked(trace_id: bytes, span_id: bytes, start_ns: int, end_ns: int) -> bytes:
    """Write ids, times and the event of an attempt that has succeeded, as nearly all attempts do."""
    return _ACKED_IDS.pack(
        b"\x0a\x10", trace_id, b"\x12\x08", span_id, _START, start_ns, _END, end_ns,
        b"\x5a\x16\x09", end_ns, b"\x12\x0bmessage.ack",
    )  # fmt: skip
