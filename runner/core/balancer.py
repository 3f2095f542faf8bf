"""The balancer: which of several instances gets the next request. Clock and luck are arguments.

Rule 1: an instance that fails, or is far slower than the others, is ejected for a while; then single requests try it, and
        three good ones in a row bring it back.
Rule 2: at most half of the instances are ejected for failures or slowness (one of two or three, of a single one none): where most
        are bad, the fault is elsewhere. One that does not answer at all is ejected whatever the others do.
Rule 3: where no instance is fit, one that is not is chosen: rather that than none.
Rule 4: an instance that says it is overloaded rests for 50 to 100 ms, and has not failed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import exp, inf
from typing import Literal, TypeAlias, get_args

Policy: TypeAlias = Literal["peak_ewma", "least_requests", "round_robin", "weighted_round_robin", "random"]
"""How one of the fit instances is chosen."""
POLICIES: tuple[Policy, ...] = get_args(Policy)

Ended: TypeAlias = Literal["answered", "failed", "overloaded", "withdrawn"]
"""How a request to an instance ended: `withdrawn` says nothing of the instance."""
State: TypeAlias = Literal["healthy", "resting", "ejected", "trial"]

DECAY_SECONDS = 10.0
UNKNOWN_COST = 1e6
"""Of an instance that has requests and has answered none: it is not given more until it does."""
REST_SECONDS = 0.05
EJECTED_SECONDS = 1.0
LONGEST_SECONDS = 60.0
FORGIVEN = 10.0
"""An ejection is forgotten after so many times its length, 60 s at least, without another one."""
TRIALS = 3

FAILURES_IN_A_ROW = 5
LEAST_SUCCESS = 0.8
SUCCESS_STEP = 0.02
"""The share of successes is one over about 50 requests."""
MEASURED = 20
"""Requests before the share of successes counts."""

MUCH_SLOWER = 3.0
SLOWER_SECONDS = 0.005
MEDIAN_STEP = 0.05
TIMED = 50
"""Answers before the median counts; it is compared at each tenth."""


class Backend:
    """One instance, as one asker knows it."""

    __slots__ = (
        "_at", "_ewma", "back", "current", "ejected", "ejections", "failures", "good", "latency", "measured", "name",
        "outstanding", "success", "trial", "until", "weight",
    )  # fmt: skip

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.outstanding = 0
        """Requests on their way there."""
        self.latency = 0.0
        """The running median of its answers, in seconds."""
        self.success = 1.0
        """The share of requests that it could do."""
        self.measured = self.failures = 0
        """Requests since it came back, and of those how many failed last, in a row."""
        self.ejected = False
        self.ejections = self.good = 0
        """How often it was ejected, and its good trials since."""
        self.trial = False
        """A request tries it."""
        self.until = self.back = 0.0
        """When its rest or ejection ends, and when it came back."""
        self.current = 0.0
        """What its weight has earned, for weighted_round_robin."""
        self._ewma = self._at = 0.0

    def state(self, now: float) -> State:
        """Tell how it stands."""
        if self.ejected:
            return "ejected" if now < self.until else "trial"
        return "resting" if now < self.until else "healthy"

    def cost(self, now: float) -> float:
        """Tell how long a request would take there, by its slowest recent answers and what it works on."""
        if self._ewma == 0.0:
            return (UNKNOWN_COST + self.outstanding) / self.weight if self.outstanding else 0.0
        return self._ewma * exp((self._at - now) / DECAY_SECONDS) * (self.outstanding + 1) / self.weight

    def measure(self, now: float, seconds: float) -> None:
        """Take a time in: a longer one at once, a shorter one slowly."""
        kept = exp((self._at - now) / DECAY_SECONDS)
        self._ewma = max(seconds, self._ewma * kept + seconds * (1.0 - kept))
        self._at = now


class Balancer:
    """The instances of one function."""

    def __init__(self, *, luck: Callable[[], float], eject: bool = True) -> None:
        """`luck` gives numbers from 0 to 1, as `random.random` does."""
        self.backends: dict[str, Backend] = {}
        self._luck = luck
        self._eject = eject
        self._fit: list[Backend] = []
        self._trying: list[Backend] = []
        """Ejected ones that may be tried."""
        self._until = inf
        """When the lists above are to be made again."""
        self._last = ""

    def update(self, weights: Mapping[str, float], now: float) -> None:
        """Take over which instances there are; what is known of those that stay is kept."""
        self.backends = {
            name: self.backends.get(name) or Backend(name, weight) for name, weight in sorted(weights.items())
        }
        for name, weight in weights.items():
            self.backends[name].weight = weight
        self._sort(now)

    def remove(self, name: str) -> None:
        """Forget an instance that is gone."""
        gone = self.backends.pop(name, None)
        if gone is not None:
            for each in (self._fit, self._trying):
                if gone in each:
                    each.remove(gone)

    def pick(self, policy: Policy, now: float, tried: Collection[str] = ()) -> Backend | None:
        """Choose one that is not among those tried, and count the request; None where there is none left."""
        if now >= self._until:
            self._sort(now)
        for each in self._trying:
            if not each.trial and each.name not in tried:
                each.trial = True
                each.outstanding += 1
                return each
        fit = self._fit
        if tried:
            fit = [each for each in fit if each.name not in tried]
        found = self._chosen(policy, fit, now) if fit else self._rather(tried)
        if found is not None:
            found.outstanding += 1
        return found

    def _rather(self, tried: Collection[str]) -> Backend | None:
        """One that is not fit, and will be soonest."""
        left = [each for each in self.backends.values() if each.name not in tried]
        return min(left, key=lambda each: (each.ejected, each.until, each.outstanding), default=None)

    def _chosen(self, policy: Policy, fit: list[Backend], now: float) -> Backend:
        count = len(fit)
        if count == 1:
            return fit[0]
        match policy:
            case "random":
                return fit[int(self._luck() * count)]
            case "round_robin":
                # By name, not by place: who comes or goes changes nobody's turn.
                found = next((each for each in fit if each.name > self._last), fit[0])
                self._last = found.name
                return found
            case "weighted_round_robin":
                total = 0.0
                found = fit[0]
                for each in fit:
                    total += each.weight
                    each.current += each.weight
                    if each.current > found.current:
                        found = each
                found.current -= total
                return found
        one = int(self._luck() * count)
        other = int(self._luck() * (count - 1))
        first, second = fit[one], fit[other + (other >= one)]
        if policy == "least_requests":
            fewer = (first.outstanding + 1) / first.weight <= (second.outstanding + 1) / second.weight
            return first if fewer else second
        return first if first.cost(now) <= second.cost(now) else second

    def done(self, backend: Backend, now: float, seconds: float, ended: Ended) -> str | None:
        """A request has ended, after so many seconds: what it tells of the instance; in words, where that changes its state."""
        backend.outstanding -= 1
        trial, backend.trial = backend.trial, False
        if ended == "withdrawn":
            return None
        if ended == "overloaded":
            if not backend.ejected:
                backend.until = now + REST_SECONDS * (1.0 + self._luck())
                self._sort(now)
            return None
        backend.measure(now, seconds)
        return (
            self._judged(backend, now, seconds, failed=ended == "failed", trial=trial)
            if self._eject
            else None
        )

    def suspend(self, backend: Backend, now: float) -> None:
        """Eject an instance that does not answer at all."""
        if not backend.ejected:
            self._out(backend, now)

    def _judged(self, it: Backend, now: float, seconds: float, *, failed: bool, trial: bool) -> str | None:
        it.measured += 1
        it.success += ((not failed) - it.success) * SUCCESS_STEP
        if not failed:
            self._time(it, seconds)
        if it.ejected:
            return self._tried(it, now, seconds, failed=failed) if trial else None
        if failed:
            it.failures += 1
            if it.failures >= FAILURES_IN_A_ROW:
                return self._thrown(it, now, "consecutive failures")
            if it.measured >= MEASURED and it.success < LEAST_SUCCESS:
                return self._thrown(it, now, "success rate")
            return None
        it.failures = 0
        if it.measured >= TIMED and it.measured % 10 == 0:
            peers = self._median(it)
            if peers and it.latency > MUCH_SLOWER * peers and it.latency - peers > SLOWER_SECONDS:
                return self._thrown(it, now, "latency")
        return None

    def _time(self, it: Backend, seconds: float) -> None:
        """A running median: an average is fooled by one slow answer in a hundred."""
        if it.latency == 0.0:
            it.latency = self._median(it) or seconds
        it.latency *= 1.0 + MEDIAN_STEP * (1 if seconds > it.latency else -1)

    def _median(self, but: Backend) -> float:
        """The median of the others' latency; 0.0 where none is known."""
        known = sorted(
            each.latency
            for each in self.backends.values()
            if each is not but and not each.ejected and each.latency > 0.0
        )
        return known[len(known) // 2] if known else 0.0

    def _tried(self, it: Backend, now: float, seconds: float, *, failed: bool) -> str | None:
        peers = self._median(it)
        if failed or (peers and seconds > MUCH_SLOWER * peers + 2 * SLOWER_SECONDS):
            self._out(it, now)
            return "trial failed"
        it.good += 1
        if it.good < TRIALS:
            return None
        it.ejected = False
        it.failures = it.measured = 0
        it.success = max(it.success, 0.9)
        it.latency = peers or it.latency
        it.back = now
        self._sort(now)
        return "recovered"

    def _thrown(self, it: Backend, now: float, why: str) -> str | None:
        out = sum(each.ejected for each in self.backends.values())
        if out >= len(self.backends) // 2 or self.backends.get(it.name) is not it:
            return None
        self._out(it, now)
        return why

    def _out(self, it: Backend, now: float) -> None:
        length = min(EJECTED_SECONDS * 2.0**it.ejections, LONGEST_SECONDS)
        if it.back and now - it.back > max(LONGEST_SECONDS, FORGIVEN * length):
            it.ejections, length = 0, EJECTED_SECONDS
        it.ejections = min(it.ejections + 1, 20)
        it.ejected, it.good = True, 0
        it.until = now + length * (0.75 + self._luck() / 2)
        self._sort(now)

    def _sort(self, now: float) -> None:
        every = self.backends.values()
        self._fit = [each for each in every if not each.ejected and each.until <= now]
        self._trying = [each for each in every if each.ejected and each.until <= now]
        self._until = min((each.until for each in every if each.until > now), default=inf)
