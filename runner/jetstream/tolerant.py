"""Reads keys of the bucket, and answers. A value that is not valid is passed over, and logged once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from runner.core import shown
from runner.core.checked import Unfit

T = TypeVar("T")

log = logging.getLogger("jetrunner.unreadable")

MOST = 1_000
"""Most values that are logged, so that bad values cannot fill the log."""
LONGEST = 200
_told: set[str] = set()


def read(decode: Callable[[bytes], T], value: bytes, key: str) -> T | None:
    """Decode a value; None, and logged, if it cannot be read."""
    try:
        return decode(value)
    except Unfit as error:
        pass_over(key, error)
        return None


def pass_over(key: str, why: object) -> None:
    """Log that the value under a key is not used."""
    if key in _told or len(_told) >= MOST:
        return
    _told.add(key)
    log.warning(
        "%s is ignored: %s",
        shown.line(key)[:LONGEST],
        shown.line(str(why))[:LONGEST],
    )
