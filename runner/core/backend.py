"""A backend: what one caller knows of one instance that serves a function.

Two figures tell how fast it answers, for two questions:

- The decaying peak (`cost`), for choosing: a slow answer raises it at once, quick answers lower it gradually. A failure never
  lowers it, because failing is often quick.
- The geometric mean of about the last 50 answers (`latency`), for comparing: one slow answer in a hundred hardly moves it.
  A running median would move as little, but would jump to and fro when half of the answers are quick and half are slow.
"""

from __future__ import annotations

from math import exp, inf, log
from typing import Literal, TypeAlias

State: TypeAlias = Literal["healthy", "resting", "ejected", "trial"]

PER_DECAY = 0.1
"""1 / the decay time of the peak in seconds: after 10 s a value has lost two thirds."""
UNKNOWN = 1e6
"""The cost of an instance that has requests and has answered none yet: higher than every measured cost."""
LEAST_SECONDS = 1e-6
SHARE = 0.02
"""The weight of one request in a running figure, which so reflects about the last 50 requests."""
FULL = 50
"""The first 50 answers count alike, so that the very first weighs no more than the others."""


class Backend:
    """One instance. Only its `Balancer` writes the fields; all other code reads them."""

    __slots__ = (
        "answers", "at", "begun", "earned", "ejected_at", "ejected_until", "ejections", "ewma", "failures", "good", "log",
        "name", "outstanding", "reason", "requests", "rests_until", "slow", "success", "trial_at", "weight",
    )  # fmt: skip

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.outstanding = 0
        """Requests that were sent to it and have not ended."""
        self.earned = 0.0
        """Credit from its weight so far, for weighted_round_robin."""

        self.ewma = self.at = 0.0
        """The peak, in seconds, and when it was written; 0.0 before the first answer."""
        self.log = 0.0
        """The running mean of the logarithms of its answers' seconds."""
        self.success = 1.0
        """The share of requests that did not fail."""
        self.requests = self.answers = 0
        """Requests that have ended, and answers among them, since the instance came or came back."""
        self.failures = 0
        """Failures in a row; while it is ejected: failures since the ejection, without those of trials."""

        self.rests_until = 0.0
        """When it may be asked again after it was overloaded."""
        self.ejected_until = 0.0
        """When its trials begin; 0.0: it is not ejected."""
        self.ejections = 0
        """How often it was ejected; each minute without an ejection cancels one."""
        self.ejected_at = self.begun = -inf
        """When it was last ejected, and when it last came back."""
        self.reason = ""
        """Why it was ejected; empty: it is not ejected."""
        self.slow = False
        """Whether it was ejected for being slow."""
        self.trial_at = inf
        """When its trial was sent; inf: none is on its way."""
        self.good = 0
        """Good trials in a row."""

    @property
    def latency(self) -> float:
        """The running geometric mean of its answers, in seconds; 0.0 before the first."""
        return exp(self.log) if self.answers else 0.0

    def state(self, now: float) -> State:
        """Tell its state; `trial`: the time of its ejection is over, and trials decide what follows."""
        if self.ejected_until:
            return "ejected" if now < self.ejected_until else "trial"
        return "resting" if now < self.rests_until else "healthy"

    def cost(self, now: float) -> float:
        """Tell the cost of one more request there; 0.0 when the instance has no requests and has answered none."""
        if self.ewma == 0.0:
            return (UNKNOWN + self.outstanding) / self.weight if self.outstanding else 0.0
        return self.ewma * exp((self.at - now) * PER_DECAY) * (self.outstanding + 1) / self.weight

    def answered(self, now: float, seconds: float, typical: float) -> None:
        """Learn from an answer; the first counts as `typical` of the others at least, because one quick answer is no proof."""
        if seconds < LEAST_SECONDS:  # noqa: PLR1730  max() costs as much as all the rest
            seconds = LEAST_SECONDS
        peak = self.ewma
        if peak == 0.0:
            self.ewma = max(seconds, typical)
        else:
            kept = exp((self.at - now) * PER_DECAY)
            peak *= kept
            self.ewma = seconds if seconds > peak else peak + seconds * (1.0 - kept)
        self.at = now
        self.failures = 0
        self.requests += 1
        self.success += (1.0 - self.success) * SHARE
        self.answers = answers = self.answers + 1
        self.log += (log(seconds) - self.log) * (SHARE if answers > FULL else 1.0 / answers)

    def failed(self, now: float, seconds: float, typical: float) -> None:
        """Learn from a failure."""
        self.ewma = max(seconds, LEAST_SECONDS, self.ewma or typical)
        self.at = now
        self.failures += 1
        self.requests += 1
        self.success -= self.success * SHARE

    def ejected(self, now: float, until: float) -> None:
        """Eject it: it gets no requests until `until`, and single ones afterwards."""
        self.ejected_at, self.ejected_until = now, until
        self.ejections += 1
        self.trial_at = inf
        self.good = self.failures = 0

    def recovered(self, now: float) -> None:
        """Begin again like a new instance."""
        self.begun = now
        self.reason = ""
        self.ejected_until = self.ewma = 0.0
        self.trial_at = inf
        self.success = 1.0
        self.requests = self.answers = self.failures = 0
