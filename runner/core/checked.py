"""Checked types: what comes off the wire, or out of the bucket, is decoded into these before it is used.

Rule 1: anybody who may publish there can have written it. A name that goes into a subject has only characters that a
        subject can hold, every text and list has an end, and every number is one that the server could have counted.
Rule 2: bytes that do not fit are `Unfit`, whatever is wrong with them, and nothing else is ever raised. Its text says what
        was expected, and quotes nothing of what came.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

LONGEST_INSTANCE = 128
_CONTROL = r"\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff"

Instance: TypeAlias = Annotated[str, Meta(pattern=rf"\A[A-Za-z0-9_-]{{1,{LONGEST_INSTANCE}}}\Z")]
"""The name of a running process."""

Owner: TypeAlias = Annotated[str, Meta(pattern=rf"\A[A-Za-z0-9_-]{{0,{LONGEST_INSTANCE}}}\Z")]
"""An instance, or empty: none."""

Function: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,99}\Z")]
"""The name of a function."""

Project: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,255}\Z")]

Id: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{0,128}\Z")]
"""What a server calls itself; empty where it is not told."""

Stream: TypeAlias = Annotated[str, Meta(pattern=rf"\A[^\s.*>/\\{_CONTROL}]{{1,255}}\Z")]
"""The name of a stream, or of a consumer."""

Subject: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"\A(?!(?:[^.]+\.)*[*>](?:\.|\Z))[^\s.{_CONTROL}]+(?:\.[^\s.{_CONTROL}]+)*\Z",
        max_length=4_096,
    ),
]
"""A literal subject: one that a message can be published to."""

Pattern: TypeAlias = Annotated[
    str, Meta(pattern=rf"\A[^\s.{_CONTROL}]+(?:\.[^\s.{_CONTROL}]+)*\Z", max_length=4_096)
]
"""A subject that may hold wildcards."""

_LINE = r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*\Z"
Line: TypeAlias = Annotated[str, Meta(pattern=_LINE, max_length=8_192)]
"""One line of text."""

LONGEST_SUBJECT = 65_535
"""Bytes of a subject of others that is remembered; a server takes 4,096 unless it is configured."""

Told: TypeAlias = Annotated[str, Meta(pattern=_LINE, max_length=2 * LONGEST_SUBJECT + 1)]
"""One line that tells a subject, or a part of one, byte for byte: twice as long where it has to be in hex."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""A number of things, or a sequence; the server counts no further, and a sum of millions of them is still a number."""

Index: TypeAlias = Annotated[int, Meta(ge=0, le=4_096)]
"""The place of a token in a subject."""

UnixTime: TypeAlias = Annotated[float, Meta(ge=0, le=253_402_300_000)]
"""Seconds, up to the year 9999: what a calendar can hold."""

Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e12)]

Share: TypeAlias = Annotated[float, Meta(ge=0, le=1e18)]
"""A rate, or another measure that is no count."""


class Unfit(ValueError):  # noqa: N818  named by what happened, as the others are
    """Bytes that do not hold what they should."""


def json(shape: type[T]) -> Callable[[bytes], T]:
    """Make what decodes JSON into a type; it raises `Unfit` and nothing else."""
    return _reader(msgspec.json.Decoder(shape).decode)


def msgpack(shape: type[T]) -> Callable[[bytes], T]:
    """The same for MessagePack."""
    return _reader(msgspec.msgpack.Decoder(shape).decode)


def shaped(value: Any, shape: type[T]) -> T:
    """Check a value that is decoded already; raises `Unfit`."""
    return _reader(lambda plain: msgspec.convert(plain, shape))(value)


def name(text: str, shape: Any) -> str:
    """Give a name that a header holds, empty where it is no name of this type."""
    try:
        return str(shaped(text, shape))
    except Unfit:
        return ""


def subject(text: str) -> str:
    """Give a subject that a header holds, empty where it can be no subject, or is longer than `LONGEST_SUBJECT`."""
    try:
        return text if len(text.encode("utf-8", "surrogateescape")) <= LONGEST_SUBJECT else ""
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return ""


def is_line(text: str) -> bool:
    """Tell whether a text is one line, and can stand in JSON."""
    return re.match(_LINE, text) is not None


def number(text: bytes | str, most: int = (1 << 63) - 1) -> int | None:
    """Read a whole number from 0 to `most`; None for everything else, Unicode's other digits among it."""
    if not text.isdigit() or not text.isascii() or len(text) > len(str(most)):
        return None
    found = int(text)
    return found if found <= most else None


def _reader(decode: Callable[[Any], T]) -> Callable[[Any], T]:
    def read(value: Any) -> T:
        try:
            return decode(value)
        except RecursionError:
            raise Unfit("it is nested too deeply") from None
        except UnicodeError:
            raise Unfit("it is no UTF-8") from None
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise Unfit(f"{error}") from None

    return read
