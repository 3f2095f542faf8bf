"""Retry policy: how often a message is tried, and how long it waits in between."""

from __future__ import annotations

import math
from typing import Any, Literal, Self, TypeAlias

from msgspec import Struct, structs

Jitter: TypeAlias = Literal["full", "equal", "none"]
Verdict: TypeAlias = Literal["retry", "reject"]
Errors: TypeAlias = tuple[type[BaseException], ...]

COUNTED = 10_000
"""How many attempts `span` adds up at most."""
LONGEST = 10 * 365 * 86_400.0
"""Seconds that no wait exceeds, because the server counts a nak's delay in nanoseconds of 64 bits."""


class RetryPolicy(Struct, frozen=True):
    """How often a message is tried and how long it waits in between: seconds, growing, with jitter.

    The wait after attempt n is `min(delay * factor**(n-1), max_delay)`, then jittered.
    `fixed`, `random` and `sequence` make policies of other shapes. A field out of its range raises ValueError.
    """

    attempts: int = 5
    """How often a message is run at most, the first time included."""
    delay: float = 1.0
    """Seconds before the second attempt."""
    factor: float = 2.0
    """The factor by which each wait is longer than the one before; 1 or more."""
    max_delay: float = 300.0
    """Seconds that no wait exceeds; that of `Retry(after=)` may."""
    jitter: Jitter = "full"
    """`full`: a random wait from 0 to the full one; `equal`: from half of it to all of it; `none`: the full wait."""
    retry_on: Errors = (Exception,)
    """Errors worth another attempt; any other is rejected."""
    reject_on: Errors = ()
    """Errors that are rejected even if `retry_on` names them too."""
    spread: tuple[float, float] | None = None
    """Set by `random`: every wait is a random one between these seconds, all equally likely."""
    waits: tuple[float, ...] = ()
    """Set by `sequence`: the waits one by one; the last one repeats."""
    scale: float = 1.0
    """Set by `scaled`: the factor by which every wait is multiplied."""

    def scaled(self, scale: float) -> Self:
        """The same policy with every wait, that of `Retry(after=)` included, multiplied by `scale`.

        With it tests need not wait an hour for a retry. ValueError for less than 0.
        """
        return structs.replace(self, scale=self.scale * scale)

    @classmethod
    def fixed(
        cls, delay: float, *, attempts: int = 5, retry_on: Errors = (Exception,), reject_on: Errors = ()
    ) -> Self:
        """Wait the same seconds each time."""
        return cls.sequence(delay, attempts=attempts, retry_on=retry_on, reject_on=reject_on)

    @classmethod
    def random(
        cls,
        low: float,
        high: float,
        *,
        attempts: int = 5,
        retry_on: Errors = (Exception,),
        reject_on: Errors = (),
    ) -> Self:
        """Wait a random time between two numbers of seconds, all equally likely."""
        return cls(attempts, spread=(low, high), retry_on=retry_on, reject_on=reject_on)

    @classmethod
    def sequence(
        cls,
        *waits: float,
        attempts: int | None = None,
        retry_on: Errors = (Exception,),
        reject_on: Errors = (),
    ) -> Self:
        """Wait these seconds one after the other; the last wait repeats. By default there is one attempt more than waits."""
        if not waits:
            raise ValueError("RetryPolicy.sequence needs at least one wait")
        number = len(waits) + 1 if attempts is None else attempts
        return cls(number, waits=waits, retry_on=retry_on, reject_on=reject_on)

    def __post_init__(self) -> None:
        _require_count("attempts", self.attempts)
        _require_seconds("delay", self.delay)
        if not _is_number(self.factor) or not math.isfinite(self.factor) or self.factor < 1:
            raise ValueError(f"factor is a number of 1 or more, not {self.factor!r}")
        if self.max_delay != math.inf:
            _require_seconds("max_delay", self.max_delay)
        if self.jitter not in ("full", "equal", "none"):
            raise ValueError(f"jitter is 'full', 'equal' or 'none', not {self.jitter!r}")
        _require_errors("retry_on", self.retry_on)
        _require_errors("reject_on", self.reject_on)
        for wait in self.waits:
            _require_seconds("a wait", wait)
        _require_seconds("scale", self.scale)
        if self.spread is not None:
            low, high = self.spread
            _require_seconds("low", low)
            _require_seconds("high", high)
            if low > high:
                raise ValueError(f"low ({low}) is over high ({high})")

    def wait(self, attempt: int, noise: float) -> float:
        """Give the seconds between the failure of `attempt` (1 is the first) and the next; `noise` is a random number in [0, 1)."""
        return min(self._wait(attempt, noise) * self.scale, LONGEST)

    def span(self, timeout: float) -> float:
        """Give the most seconds that pass from the first attempt to the last one, if each attempt takes `timeout` seconds."""
        return sum(self.wait(attempt, 0.999) + timeout for attempt in range(1, min(self.attempts, COUNTED)))

    def asked(self, seconds: float) -> float:
        """Give the seconds until the next attempt after a handler has raised `Retry(after=seconds)`."""
        return min(seconds * self.scale, LONGEST)

    def _wait(self, attempt: int, noise: float) -> float:
        if self.waits:
            return float(self.waits[min(attempt, len(self.waits)) - 1])
        if self.spread is not None:
            low, high = self.spread
            return low + noise * (high - low)
        wait = self._grown(attempt)
        if self.jitter == "full":
            return noise * wait
        if self.jitter == "equal":
            return wait / 2 + noise * wait / 2
        return wait

    def _grown(self, attempt: int) -> float:
        if not self.delay:
            return 0.0
        try:
            grown = self.delay * float(self.factor) ** (attempt - 1)
        except OverflowError:
            grown = math.inf
        return min(grown, float(self.max_delay), LONGEST)

    def verdict(self, error: BaseException) -> Verdict:
        """Tell whether this error is worth another attempt.

        An error that is no `Exception` (SystemExit, KeyboardInterrupt) is about the process, not about the message: retried.
        """
        if isinstance(error, self.reject_on):
            return "reject"
        if isinstance(error, self.retry_on) or not isinstance(error, Exception):
            return "retry"
        return "reject"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require_count(what: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{what} is a whole number of 1 or more, not {value!r}")


def _require_seconds(what: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= LONGEST:
        raise ValueError(f"{what} is a number of seconds from 0 to ten years, not {value!r}")


def _require_errors(what: str, value: Any) -> None:
    if isinstance(value, tuple) and all(
        isinstance(item, type) and issubclass(item, BaseException) for item in value
    ):
        return
    raise ValueError(f"{what} is a tuple of exception classes, not {value!r}")
