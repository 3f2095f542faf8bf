"""NATS header blocks: bytes ↔ name and value pairs.

Reading never raises: lines that are no header are skipped. Text is UTF-8; bytes that are not come back as
surrogate escapes, so a value that is read and sent on stays the same byte for byte. Names keep their case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_VERSION = b"NATS/1.0"
_BAD_NAME = re.compile(r"[\x00-\x20\x7f:]")
_LINE = re.compile(r"[^\x00-\x20\x7f:]+: [^\r\n]*")
_STATUS = re.compile(rb"NATS/1\.0 +([0-9]{3})(?: +([^\r\n]*))?")

SOURCE = "nats-stream-source"
"""The server writes it into a message that a stream copies from another one, and refuses a publish that has it (2.15)."""

# Headers that would make the server act again on a copy of the message, lower case.
_ACTING = (
    "nats-msg-id",
    "nats-expected-",
    "nats-ttl",
    "nats-rollup",
    "nats-batch-",
    "nats-schedule",
    "nats-trace-",
    "nats-incr",
    "nats-counter-",
    "nats-marker-reason",
    "nats-required-api-level",
    SOURCE,
)

_PLACING = ("nats-msg-id", "nats-batch-", SOURCE)


def pairs(raw: bytes) -> list[tuple[str, str]]:
    """List every header in order, repeated names included."""
    if not raw.startswith(_VERSION):
        return []
    found: list[tuple[str, str]] = []
    for line in raw.decode("utf-8", "surrogateescape").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon and name and not _BAD_NAME.search(name):
            found.append((name, value.strip(" \t")))
    return found


def parse(raw: bytes) -> dict[str, str]:
    """Map name → value; of a repeated name the first value."""
    found: dict[str, str] = {}
    for name, value in pairs(raw):
        found.setdefault(name, value)
    return found


def get(raw: bytes, name: bytes) -> bytes | None:
    """Find the first value of one header, whatever the case of its name, without reading the others."""
    start = raw.lower().find(b"\r\n" + name.lower() + b":")
    if start < 0:
        return None
    start += len(name) + 3
    end = raw.find(b"\r\n", start)
    return (raw[start:] if end < 0 else raw[start:end]).strip(b" \t")


def is_marker(raw: bytes | None) -> bool:
    """Tell whether a message without a body is a marker, by which the server says that its subject's last message was removed."""
    return raw is not None and get(raw, b"Nats-Marker-Reason") is not None


def last(raw: bytes, name: bytes) -> bytes | None:
    """Find the last value of one header: the server adds its own after those that a message was stored with."""
    start = raw.lower().rfind(b"\r\n" + name.lower() + b":")
    return get(raw[start:], name) if start >= 0 else None


def status(raw: bytes) -> tuple[int, str] | None:
    """Read code and text of a status (`NATS/1.0 408 Request Timeout`); None for a message's headers."""
    if raw.startswith(b"NATS/1.0\r\n"):
        return None
    found = _STATUS.match(raw)
    if found is None:
        return None
    return int(found[1]), (found[2] or b"").decode("utf-8", "backslashreplace").rstrip(" \t")


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """Write the header block; ValueError when a name or value cannot stand in one."""
    block = "NATS/1.0\r\n"
    for name, value in headers:
        line = f"{name}: {value}"
        if ":" in name or not _LINE.fullmatch(line):
            raise ValueError(_why(name))
        block += line + "\r\n"
    return (block + "\r\n").encode("utf-8", "surrogateescape")


def without(raw: bytes, dropped: Callable[[str], bool]) -> bytes:
    """The same block without the headers for whose name, in lower case, `dropped` is true; the bytes of the others stay as they are."""
    lines = raw.split(b"\r\n")
    kept = [line for line in lines[1:] if not dropped(line.partition(b":")[0].decode("latin-1").lower())]
    return b"\r\n".join([lines[0], *kept])


def forwarded(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep the headers that a copy of a message may have: not those that the server would act on again, or refuse."""
    return [(name, value) for name, value in headers if not name.lower().startswith(_ACTING)]


def unplaced(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Drop the headers that identify the message, its batch and its source: with them the server would take a copy for the message itself."""
    return [(name, value) for name, value in headers if not name.lower().startswith(_PLACING)]


def _why(name: str) -> str:
    if not name or _BAD_NAME.search(name):
        return f"header name {name!r} must not be empty or hold a colon, whitespace or control characters"
    return f"the value of header {name} must not hold a line break"
