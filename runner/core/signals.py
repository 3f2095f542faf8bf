"""Signals: the exceptions by which a handler says how its message is settled."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any


class Retry(Exception):  # noqa: N818  a wish of the handler's, not an error
    """Run this message again, later.

    `after` is the delay in seconds (0 when negative); without it the policy's own wait applies. The failed run counts as an
    attempt: after the policy's `attempts` the message becomes a dead letter. ValueError when `after` is not finite.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        if after is not None and not math.isfinite(after):
            raise ValueError(f"Retry(after={after}) is not a number of seconds")
        self.reason = reason
        self.after = None if after is None else max(0.0, float(after))


class Reject(Exception):  # noqa: N818  a wish of the handler's, not an error
    """Give this message up at once: it becomes a dead letter, without a retry."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class PartialFailure(Exception):  # noqa: N818  a wish of the handler's, not an error
    """Some messages of a batch failed: `failures` maps the index of each to its exception; the others are acknowledged.

    The call returns nothing then, so `output=` stores nothing of it. To publish for the other messages, use their own contexts:
    `ctx.messages[index].publish(…)`. ValueError when there is no index, an index below 0, or a value that is not an exception.
    With an index that the batch does not have, the whole call has failed, and no message of the batch is acknowledged.
    """

    def __init__(self, failures: Mapping[int, BaseException]) -> None:
        super().__init__(failures)
        if not isinstance(failures, Mapping):
            raise ValueError(
                f"PartialFailure maps an index to an exception, as {{0: error}}, not {failures!r}"
            )
        if not failures:
            raise ValueError("PartialFailure names no failed index")
        self.failures = {_index(index, error): error for index, error in failures.items()}

    def __str__(self) -> str:
        return f"{len(self.failures)} of the batch failed, first at index {min(self.failures)}"


def _index(index: Any, error: Any) -> int:
    """Check an index and give it as an int; whole numbers of other libraries are accepted. Raises ValueError."""
    if not isinstance(error, BaseException):
        raise ValueError(f"PartialFailure maps an index to an exception, not {index!r} to {error!r}")
    try:
        place = -1 if isinstance(index, bool) else operator.index(index)
    except TypeError:
        place = -1
    if place < 0:
        raise ValueError(
            f"PartialFailure: {index!r} is no index of a message in its batch: they are whole numbers from 0"
        )
    return place
