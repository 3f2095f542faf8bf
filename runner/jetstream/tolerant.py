"""Keys of the bucket, and answers, that do not hold what they should. Each is passed over, and told once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from runner.core import shown
from runner.core.checked import Unfit

T = TypeVar("T")

log = logging.getLogger("jetrunner.unreadable")

MOST = 1_000
"""So many are told; whoever writes more of them than that need not fill the log, too."""
LONGEST = 200
_told: set[str] = set()


def read(decode: Callable[[bytes], T], value: bytes, key: str) -> T | None:
    """What a value holds; None, and told, where it is none that can be read."""
    try:
        return decode(value)
    except Unfit as error:
        pass_over(key, error)
        return None


def pass_over(key: str, why: object) -> None:
    """Tell that what stands there is not used."""
    if key in _told or len(_told) >= MOST:
        return
    _told.add(key)
    log.warning("%s is passed over: %s", shown.line(key)[:LONGEST], shown.line(str(why))[:LONGEST])
