"""Checked types: bytes from the wire or from the bucket are decoded into these before they are used.

Rule 1: anybody who may publish there can have written the bytes. So a name that goes into a subject has only characters that
        a subject can hold, every text and list has a greatest length, and every number is one that the server could have counted.
Rule 2: bytes that do not fit raise `Unfit`, whatever is wrong with them, and nothing else is ever raised. Its text says what
        was expected, and quotes nothing of the bytes.
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

InstanceName: TypeAlias = Annotated[str, Meta(pattern=rf"\A[A-Za-z0-9_-]{{1,{LONGEST_INSTANCE}}}\Z")]
"""The name of a running process."""

OwnerName: TypeAlias = Annotated[str, Meta(pattern=rf"\A[A-Za-z0-9_-]{{0,{LONGEST_INSTANCE}}}\Z")]
"""The name of an instance; empty: no instance."""

FunctionName: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,99}\Z")]
"""The name of a function."""

ProjectName: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,255}\Z")]

Id: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{0,128}\Z")]
"""The id of a server; empty: not known."""

Stream: TypeAlias = Annotated[str, Meta(pattern=rf"\A[^\s.*>/\\{_CONTROL}]{{1,255}}\Z")]
"""The name of a stream, or of a consumer."""

Subject: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"\A(?!(?:[^.]+\.)*[*>](?:\.|\Z))[^\s.{_CONTROL}]+(?:\.[^\s.{_CONTROL}]+)*\Z",
        max_length=4_096,
    ),
]
"""A literal subject: a message can be published to it."""

SubjectPattern: TypeAlias = Annotated[
    str, Meta(pattern=rf"\A[^\s.{_CONTROL}]+(?:\.[^\s.{_CONTROL}]+)*\Z", max_length=4_096)
]
"""A subject that may hold wildcards."""

_LINE = r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*\Z"
Line: TypeAlias = Annotated[str, Meta(pattern=_LINE, max_length=8_192)]
"""One line of text."""

LONGEST_SUBJECT = 65_535
"""Most bytes of another application's subject that is remembered; a server takes 4,096 unless it is configured."""

Told: TypeAlias = Annotated[str, Meta(pattern=_LINE, max_length=2 * LONGEST_SUBJECT + 1)]
"""One line with a subject, or a part of one, byte for byte: written in hexadecimal it is twice as long."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""A number of things, or a sequence: at most what the server can count."""

Index: TypeAlias = Annotated[int, Meta(ge=0, le=4_096)]
"""The place of a token in a subject."""

UnixTime: TypeAlias = Annotated[float, Meta(ge=0, le=253_402_300_000)]
"""Seconds of Unix time, up to the year 9999, the last that a calendar can hold."""

Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e12)]

Share: TypeAlias = Annotated[float, Meta(ge=0, le=1e18)]
"""A rate, or another measure that is not a count."""


class Unfit(ValueError):  # noqa: N818  named by what happened, as the others are
    """Raised for bytes that do not hold what they should."""


def json(shape: type[T]) -> Callable[[bytes], T]:
    """Make a decoder from JSON into a type; it raises `Unfit` and nothing else."""
    return _reader(msgspec.json.Decoder(shape).decode)


def msgpack(shape: type[T]) -> Callable[[bytes], T]:
    """Make a decoder from MessagePack into a type; it raises `Unfit` and nothing else."""
    return _reader(msgspec.msgpack.Decoder(shape).decode)


def shaped(value: Any, shape: type[T]) -> T:
    """Check a value that is decoded already; raises `Unfit`."""
    return _reader(lambda plain: msgspec.convert(plain, shape))(value)


def name(text: str, shape: Any) -> str:
    """Return a name that a header holds, or an empty text when it is not a name of this type."""
    try:
        return str(shaped(text, shape))
    except Unfit:
        return ""


def subject(text: str) -> str:
    """Return a subject that a header holds, or an empty text when it cannot be one or is longer than `LONGEST_SUBJECT`."""
    try:
        return text if len(text.encode("utf-8", "surrogateescape")) <= LONGEST_SUBJECT else ""
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return ""


def is_line(text: str) -> bool:
    """Tell whether a text is one line, and can stand in JSON."""
    return re.match(_LINE, text) is not None


def number(text: bytes | str, most: int = (1 << 63) - 1) -> int | None:
    """Read a whole number from 0 to `most`; None for everything else, such as non-ASCII digits."""
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
