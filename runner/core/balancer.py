"""The balancer: which of the instances that serve a function gets the next request. Time and random numbers are arguments.

Rule 1: of the healthy instances the policy chooses one. `core/ejection.py` says which are ejected. An instance that says it is
        overloaded rests for 50 to 100 ms; that is no failure.
Rule 2: an instance whose ejection is over gets the next first try of a request as its trial. A retry is no trial unless
        nothing else is left: its caller has waited long enough.
Rule 3: if no healthy instance is left, another is chosen: a resting one before an ejected one, then the one with fewer failures
        since it was ejected, then the one whose time ends first. Good answers of such requests count like those of trials.
Rule 4: with peak_ewma, an instance that is new, or came back, gets one request first. After its answer it starts at the level of
        the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from math import exp, inf
from typing import Literal, TypeAlias, get_args

from runner.core import ejection
from runner.core.backend import PER_DECAY, Backend, State
from runner.core.ejection import Reason

__all__ = ["POLICIES", "Backend", "Balancer", "Ended", "Policy", "State"]

Policy: TypeAlias = Literal["peak_ewma", "least_requests", "round_robin", "weighted_round_robin", "random"]
"""How one of the healthy instances is chosen."""
POLICIES: tuple[Policy, ...] = get_args(Policy)

Ended: TypeAlias = Literal["answered", "failed", "overloaded", "withdrawn"]
"""How a request ended. An error that is the caller's fault is an answer; `withdrawn` says nothing about the instance."""

REST_SECONDS = 0.05
COMPARED_SECONDS = 0.1
"""How old the medians of all instances may be: finding those of 100 instances takes as long as 20 requests."""
COMPARED_ANSWERS = 30
"""Answers before an instance's latency counts for the median."""
CLOCK_SECONDS = 1e-6
"""Rounding of floats may put `now - seconds` so far off the time of the pick."""


class Balancer:
    """The instances of one function, as one caller knows them."""

    __slots__ = (
        "_changes", "_compared", "_eject", "_healthy", "_last", "_luck", "_names", "_trials", "_typical_latency",
        "_typical_peak", "backends", "ejections",
    )  # fmt: skip

    def __init__(self, *, luck: Callable[[], float], eject: bool = True) -> None:
        """`luck` gives random numbers from 0 to less than 1, as `random.random` does; without `eject` no instance is ever ejected."""
        self.backends: dict[str, Backend] = {}
        """The instances by name, sorted by name."""
        self.ejections: dict[Reason, int] = {}
        """How often instances were ejected, by reason."""
        self._luck = luck
        self._eject = eject
        self._healthy: list[Backend] = []
        self._names: list[str] = []
        """The names of the healthy instances."""
        self._trials: list[Backend] = []
        """Instances whose ejection is over."""
        self._changes = inf
        """When the next rest or ejection ends; these lists are made again then."""
        self._last: str | None = None
        """The instance chosen last, for round_robin."""
        self._compared = -inf
        self._typical_latency = self._typical_peak = 0.0
        """The medians of all instances, 0.0 when not known; `_compared` is when they were found."""

    def update(self, weights: Mapping[str, float], now: float) -> None:
        """Set the instances and their weights; what is known of instances that stay is kept."""
        known = self.backends
        self.backends = {name: known.get(name) or Backend(name, weights[name]) for name in sorted(weights)}
        for name, weight in weights.items():
            self.backends[name].weight = weight
        self._sort(now)

    def remove(self, name: str) -> None:
        """Forget an instance that is gone."""
        gone = self.backends.pop(name, None)
        if gone is not None:
            self._healthy = [each for each in self._healthy if each is not gone]
            self._names = [each.name for each in self._healthy]
            self._trials = [each for each in self._trials if each is not gone]

    # -- choosing ---------------------------------------------------------------------------------------

    def pick(self, policy: Policy, now: float, tried: Collection[str] = ()) -> Backend | None:
        """Choose an instance that was not tried yet, and count the request; None when no instance is left."""
        if now >= self._changes:
            self._sort(now)
        chosen: Backend | None = None
        if tried:
            rest = [each for each in self._healthy if each.name not in tried]
            if rest:
                chosen = self._choose(policy, now, rest, [each.name for each in rest])
        else:
            if self._trials:
                chosen = self._next_trial(now)
            if chosen is None and self._healthy:
                chosen = self._choose(policy, now, self._healthy, self._names)
        if chosen is None:
            left = (each for each in self.backends.values() if each.name not in tried)
            chosen = min(left, key=_badness, default=None)
            if chosen is None:
                return None
            if chosen.trial_at == inf and chosen.state(now) == "trial":
                chosen.trial_at = now
        chosen.outstanding += 1
        return chosen

    def _next_trial(self, now: float) -> Backend | None:
        for each in self._trials:
            if each.trial_at == inf:
                each.trial_at = now
                return each
        return None

    def _choose(self, policy: Policy, now: float, among: list[Backend], names: list[str]) -> Backend:
        count = len(among)
        if count == 1:
            return among[0]
        if policy == "peak_ewma":
            first, second = _two(among, count, self._luck())
            return first if first.cost(now) <= second.cost(now) else second
        if policy == "least_requests":
            first, second = _two(among, count, self._luck())
            fewer = (first.outstanding + 1) * second.weight <= (second.outstanding + 1) * first.weight
            return first if fewer else second
        if policy == "round_robin":
            # By name, not by place: an instance that comes, goes or rests changes no other's turn. The first turn is
            # random, because callers that start together must not begin with the same instance.
            last = self._last
            at = int(self._luck() * count) if last is None else bisect_right(names, last) % count
            self._last = names[at]
            return among[at]
        if policy == "random":
            return among[int(self._luck() * count)]
        return _smooth(among)

    # -- learning ---------------------------------------------------------------------------------------

    def done(self, backend: Backend, now: float, seconds: float, ended: Ended) -> str | None:
        """Learn how a request ended, `seconds` after its pick; called once for each pick.

        Returns the reason when the instance is ejected now, "recovered" when its trials brought it back, else None.
        """
        backend.outstanding -= 1
        if backend.ejected_until:
            return self._done_ejected(backend, now, seconds, ended)
        if now - seconds + CLOCK_SECONDS < backend.begun:
            return None
        if ended == "answered":
            if not backend.answers:
                self._compare(now)
            backend.answered(now, seconds, self._typical_peak)
            if backend.answers >= ejection.LEAST_ANSWERS and not backend.answers % 10:
                self._compare(now)
                if ejection.is_slow(backend.latency, self._typical_latency):
                    return self._eject_one(backend, now, "latency")
        elif ended == "failed":
            backend.failed(now, seconds, self._typical_peak)
            reason = ejection.failing(backend.failures, backend.requests, backend.success)
            return self._eject_one(backend, now, reason) if reason else None
        elif ended == "overloaded" and now >= backend.rests_until:
            backend.rests_until = self._rested(now)
            self._sort(now)
        return None

    def suspend(self, backend: Backend, now: float) -> None:
        """Eject an instance that does not answer at all, whatever it did before and however many others are ejected."""
        if self._eject and now >= backend.ejected_until and self.backends.get(backend.name) is backend:
            self._out(backend, now, "no answer")

    def _done_ejected(self, backend: Backend, now: float, seconds: float, ended: Ended) -> str | None:
        sent = now - seconds + CLOCK_SECONDS
        trial = sent >= backend.trial_at
        if trial or not backend.outstanding:
            backend.trial_at = inf
        if sent < backend.ejected_at or ended == "withdrawn":
            return None
        if ended == "overloaded":
            backend.ejected_until = max(backend.ejected_until, self._rested(now))
            self._sort(now)
            return None
        self._compare(now)
        if ended == "failed" or (backend.slow and ejection.trial_is_slow(seconds, self._typical_latency)):
            if trial:
                self._out(backend, now, "trial failed")
                return "trial failed"
            backend.failures += 1
            return None
        backend.good += 1
        if backend.good < ejection.GOOD_TRIALS:
            return None
        backend.recovered(now)
        self._sort(now)
        return "recovered"

    def _rested(self, now: float) -> float:
        return now + REST_SECONDS * (1.0 + self._luck())

    def _eject_one(self, backend: Backend, now: float, reason: Reason) -> Reason | None:
        every = self.backends
        ejected = sum(each.ejected_until > 0.0 for each in every.values())
        if (
            not self._eject
            or every.get(backend.name) is not backend
            or ejected >= ejection.most_ejected(len(every))
        ):
            return None
        self._out(backend, now, reason)
        return reason

    def _out(self, backend: Backend, now: float, reason: Reason) -> None:
        if not backend.ejected_until:
            backend.slow = reason == "latency"
            backend.ejections = ejection.remembered(backend.ejections, now - backend.begun)
        backend.reason = reason
        self.ejections[reason] = self.ejections.get(reason, 0) + 1
        backend.ejected(now, now + ejection.seconds_out(backend.ejections, self._luck()))
        self._sort(now)

    def _compare(self, now: float) -> None:
        """Find the medians of all instances, unless they were found a moment ago."""
        if now < self._compared + COMPARED_SECONDS:
            return
        here = [each for each in self.backends.values() if not each.ejected_until and each.ewma]
        latencies = sorted(each.log for each in here if each.answers >= COMPARED_ANSWERS)
        peaks = sorted(each.ewma * exp((each.at - now) * PER_DECAY) for each in here)
        # Of two in the middle the lower: one slow instance of two must not be its own measure.
        self._typical_latency = exp(latencies[(len(latencies) - 1) // 2]) if latencies else 0.0
        self._typical_peak = peaks[(len(peaks) - 1) // 2] if peaks else 0.0
        if latencies:
            self._compared = now

    def _sort(self, now: float) -> None:
        """Make the lists of candidates again."""
        self._healthy, self._trials, self._changes = [], [], inf
        for each in self.backends.values():
            until = each.ejected_until or each.rests_until
            if now < until:
                self._changes = min(self._changes, until)
            elif each.ejected_until:
                self._trials.append(each)
            else:
                self._healthy.append(each)
        self._names = [each.name for each in self._healthy]


def _two(among: list[Backend], count: int, thrown: float) -> tuple[Backend, Backend]:
    """Two random instances: if each caller took the best of all, all would take the same one at the same time."""
    thrown *= count
    one = int(thrown)
    other = int((thrown - one) * (count - 1))  # the rest of the random number is random, too
    return among[one], among[other + (other >= one)]


def _smooth(among: list[Backend]) -> Backend:
    """Each instance earns its weight; the one with most credit is chosen and pays what all have earned. No weights cause bursts."""
    total = 0.0
    chosen = among[0]
    for each in among:
        total += each.weight
        each.earned += each.weight
        if each.earned > chosen.earned:
            chosen = each
    chosen.earned -= total
    return chosen


def _badness(backend: Backend) -> tuple[bool, int, float]:
    if backend.ejected_until:
        return True, backend.failures, backend.ejected_until
    return False, 0, backend.rests_until
