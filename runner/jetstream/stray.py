"""Strays: keys of the bucket, and answers, that do not hold what they should. Each is passed over, and told once."""

from __future__ import annotations

import logging

from runner.core import shown

log = logging.getLogger("jetrunner.strays")

MOST = 1_000
"""So many are told; whoever writes more of them than that need not fill the log, too."""
LONGEST = 200
_told: set[str] = set()


def pass_over(key: str, why: object) -> None:
    """Tell that what stands there is not used."""
    if key in _told or len(_told) >= MOST:
        return
    _told.add(key)
    log.warning("%s is passed over: %s", shown.line(key)[:LONGEST], shown.line(str(why))[:LONGEST])
