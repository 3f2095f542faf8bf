"""The throttle: an instance whose function fails far more often than elsewhere takes fewer messages. Time and chance are arguments.

A queue gives most messages to the instance that is done first, and failing is often quick. An instance with a full disk, or without
a route to a service, would take most of the messages, and fail them.

Rule 1: an instance is throttled if its share of failed attempts is more than three times that of the others, and more than 5
        percentage points above it, over at least 50 attempts of the last minute. The others' share is their median, of two in the
        middle the larger one: if half of the others fail as much, the fault is elsewhere. An instance that is throttled counts as
        one that fails.
Rule 2: it takes nothing for 1 s, and for twice as long each time it was throttled before, or its trial failed, up to 60 s; a
        quarter more or less by chance.
Rule 3: after that it takes ten messages as its trial. Three good trials, one after the other, bring it back; a bad one
        throttles it again. A trial is bad if it failed more often than rule 1 allows, and more than once.
Rule 4: if no other instance has made 50 attempts in the last minute, none is throttled: nobody else would do the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.ejection import remembered, seconds_out

State: TypeAlias = Literal["full", "paused", "trial"]

LEAST_ATTEMPTS = 50
TIMES_MORE = 3.0
SHARE_MORE = 0.05
TRIAL = 10
GOOD_TRIALS = 3


class Figures(Struct, frozen=True):
    """What one instance has done in the last minute."""

    attempts: int
    failed: int
    throttled: bool = False

    @property
    def share(self) -> float:
        """The share of attempts that have failed."""
        return self.failed / self.attempts if self.attempts else 0.0


def typical(others: Sequence[Figures]) -> float | None:
    """The share of attempts that fails at the other instances; None when there are none to compare with."""
    shares = sorted(
        1.0 if each.throttled else each.share
        for each in others
        if each.throttled or each.attempts >= LEAST_ATTEMPTS
    )
    if not shares or all(
        each.throttled for each in others if each.throttled or each.attempts >= LEAST_ATTEMPTS
    ):
        return None
    return shares[len(shares) // 2]


def allowed(share: float) -> float:
    """The share of attempts that may fail when `share` fails elsewhere."""
    return max(TIMES_MORE * share, share + SHARE_MORE)


def is_suspicious(own: Figures) -> bool:
    """Whether the other instances are to be asked; while little fails here, no answer of theirs would matter."""
    return own.attempts >= LEAST_ATTEMPTS and own.share > allowed(0.0)


class Throttle:
    """The throttle of one function in one instance."""

    def __init__(self) -> None:
        self.state: State = "full"
        self.until = 0.0
        """When the pause ends."""
        self._times = 0
        """How often it was throttled; one is forgotten for each minute without another."""
        self._since = 0.0
        """When it last came back."""
        self._good = 0

    def compare(self, own: Figures, others: Sequence[Figures], now: float, luck: float) -> bool:
        """Compare with the other instances while this one is not throttled; returns whether it is throttled now."""
        elsewhere = typical(others)
        if elsewhere is None or own.attempts < LEAST_ATTEMPTS or own.share <= allowed(elsewhere):
            return False
        self._times = remembered(self._times, now - self._since)
        self._pause(now, luck)
        return True

    def try_again(self, now: float) -> bool:
        """Begin a trial if the pause is over; returns whether one begins."""
        if self.state == "paused" and now >= self.until:
            self.state = "trial"
            return True
        return False

    def tried(self, failed: int, others: Sequence[Figures], now: float, luck: float) -> State:
        """Judge a trial in which `failed` attempts have failed; returns the state that follows."""
        elsewhere = typical(others)
        if elsewhere is None:
            self._recover(now)
        elif failed > max(1.0, TRIAL * allowed(elsewhere)):
            self._pause(now, luck)
        else:
            self._good += 1
            if self._good >= GOOD_TRIALS:
                self._recover(now)
        return self.state

    def _pause(self, now: float, luck: float) -> None:
        self.state, self.until = "paused", now + seconds_out(self._times, luck)
        self._times += 1
        self._good = 0

    def _recover(self, now: float) -> None:
        self.state, self._since, self._good = "full", now, 0
