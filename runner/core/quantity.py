"""Durations and sizes as people write them: `15m`, `1h30m`, `250ms`, `1GiB`, `10MB`.

A bare number is seconds, or bytes. KB, MB and GB are powers of 1,000; KiB, MiB and GiB of 1,024.
Durations are read exactly, to the nanosecond.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_NANOSECONDS = {
    "w": 7 * 86_400 * 10**9,
    "d": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "µs": 10**3,
    "ns": 1,
}
_BYTES = {
    "tib": 2**40,
    "tb": 10**12,
    "gib": 2**30,
    "gb": 10**9,
    "mib": 2**20,
    "mb": 10**6,
    "kib": 2**10,
    "kb": 10**3,
    "b": 1,
}
_SHOWN_SIZES = (
    ("TiB", 2**40),
    ("GiB", 2**30),
    ("MiB", 2**20),
    ("KiB", 2**10),
    ("GB", 10**9),
    ("MB", 10**6),
    ("KB", 10**3),
)

# Twenty digits hold any 64-bit number; more would only make arithmetic slow.
NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
_BARE = re.compile(NUMBER)
_DURATION = re.compile(rf"(?:{NUMBER}(?:w|d|h|ms|m|s|us|µs|ns))+")
_PART = re.compile(rf"({NUMBER})([a-zµ]+)")
_SIZE = re.compile(rf"({NUMBER}) ?([a-z]+)?")


def seconds(value: str | float) -> float:
    """Read a duration as seconds; ValueError names a text that is not a duration."""
    if isinstance(value, str):
        return float(_exact_nanoseconds(value) / 10**9)
    return float(_checked(value, "a duration"))


def nanoseconds(value: str | float) -> int:
    """Read a duration as nanoseconds, rounded; a number is seconds. ValueError names a text that is not a duration."""
    if isinstance(value, str):
        return round(_exact_nanoseconds(value))
    return round(Fraction(_checked(value, "a duration")) * 10**9)


def size(value: str | int) -> int:
    """Read a size as bytes; ValueError names a text that is not a size, or not a whole number of bytes."""
    if not isinstance(value, str):
        return int(_checked(value, "a size"))
    found = _SIZE.fullmatch(value.strip().lower())
    unit = _BYTES.get(found[2] or "b") if found else None
    if found is None or unit is None:
        raise ValueError(f'{value!r} is not a size: write "10MB" or "1GiB", or a number of bytes')
    exact = Fraction(found[1]) * unit
    if exact.denominator != 1:
        raise ValueError(f"{value!r} is not a whole number of bytes")
    return int(exact)


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 stream`, `2 streams`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_duration(value: float) -> str:
    """Write seconds as `1h30m`, to the nanosecond; reading it back gives the same duration."""
    return format_nanoseconds(round(value * 10**9))


def format_nanoseconds(value: int) -> str:
    """Write nanoseconds as `1h30m`; reading it back gives the same number."""
    if value < 10**9:
        for unit in ("ms", "us"):
            if value and value % _NANOSECONDS[unit] == 0:
                return f"{value // _NANOSECONDS[unit]}{unit}"
        return f"{value}ns" if value else "0s"
    text = ""
    for unit in ("d", "h", "m"):
        count, value = divmod(value, _NANOSECONDS[unit])
        text += f"{count}{unit}" if count else ""
    whole, rest = divmod(value, 10**9)
    if rest:
        return f"{text}{whole}.{rest:09}".rstrip("0") + "s"
    return f"{text}{whole}s" if whole else text


def format_size(value: int) -> str:
    """Write bytes in the largest unit that holds them whole, `1GiB`; reading it back gives the same number."""
    for unit, count in _SHOWN_SIZES:
        if value and value % count == 0:
            return f"{value // count}{unit}"
    return f"{value}B"


def _exact_nanoseconds(value: str) -> Fraction:
    text = value.strip().lower()
    if _BARE.fullmatch(text):
        return Fraction(text) * 10**9
    if not _DURATION.fullmatch(text):
        raise ValueError(
            f'{value!r} is not a duration: write "250ms", "15m" or "1h30m", or a number of seconds'
        )
    return sum((Fraction(number) * _NANOSECONDS[unit] for number, unit in _PART.findall(text)), Fraction(0))


def _checked(value: float, what: str) -> float:
    if isinstance(value, bool) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is not {what}")
    return value
