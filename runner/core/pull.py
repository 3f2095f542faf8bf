"""How many messages to ask for.

Rule 1: a slot is reserved before its message is asked for: unsettled + outstanding never exceeds the limit.
Rule 2: ask again once half of what may be outstanding has come, or an eighth of the limit: requests stay few where
        slots are rarely free, and the server always has one to answer where they are (a sixth of the rate, measured).
"""

from __future__ import annotations


def request_size(limit: int, unsettled: int, outstanding: int) -> int:
    """Decide how many more messages to ask for now, or 0 to wait.

    `limit` is how many a function may hold, `unsettled` how many it holds, `outstanding` how many are on their way.
    """
    free = limit - unsettled
    lacking = free - outstanding
    if lacking <= 0 or (outstanding * 2 > free and lacking * 8 < limit):
        return 0
    return lacking
