"""A simulation of callers and instances, event by event, on the real balancer and retry budget; no clock but its own.

    python -m tests.support.balancing    prints the table

Five instances unless said otherwise: each runs 16 requests at a time for 10 ms (exponential), and keeps 64 waiting; who
comes then is told "overloaded". One of them takes ten times as long, another fails every second request, after 1 ms.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import nan
from typing import Literal, TypeAlias

from runner.core.balancer import POLICIES, Backend, Balancer, Ended, Policy
from runner.core.retrybudget import RetryBudget

By: TypeAlias = Policy | Literal["queue group"]
"""How the instance is chosen; by the server, for a queue group: any, by chance."""
Work: TypeAlias = Callable[[random.Random], tuple[float, bool]]
"""Throws how many seconds a request takes, and whether it fails."""

ON_THE_WAY_SECONDS = 0.0001
"""From the caller to the instance, and back."""


def works(seconds: float, *, fails: float = 0.0, slow: float = 0.0, slow_seconds: float = 0.5) -> Work:
    """Exponential times of that mean, a share of failures after 1 ms, and a share of requests that take long."""

    def work(luck: random.Random) -> tuple[float, bool]:
        if luck.random() < fails:
            return 0.001, True
        return (slow_seconds if luck.random() < slow else luck.expovariate(1 / seconds)), False

    return work


@dataclass
class Instance:
    name: str
    work: Work
    weight: float = 1.0
    slots: int = 16
    waiting: int = 64
    begins: float = 0.0
    """When it is there, in seconds after the start."""
    running: int = 0
    queue: deque[Try] = field(default_factory=deque)


def usual() -> list[Instance]:
    """Three good ones, one that is slow, one that fails; by weights the slow one gets a tenth."""
    return [
        Instance("a", works(0.010), 10.0),
        Instance("b", works(0.010), 10.0),
        Instance("c", works(0.010), 10.0),
        Instance("failing", works(0.010, fails=0.5), 10.0),
        Instance("slow", works(0.100), 1.0),
    ]


@dataclass
class Request:
    caller: Caller
    sent: float
    tried: list[str] = field(default_factory=list)


@dataclass
class Try:
    request: Request
    sent: float
    backend: Backend | None


@dataclass
class Caller:
    balancer: Balancer
    budget: RetryBudget


@dataclass
class Result:
    """What was counted after the first second."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    """Of requests that were answered, in seconds, sorted at the end."""
    failed: int = 0
    answered_by: Counter[str] = field(default_factory=Counter)
    """Requests by the instance that had them last."""
    changes: list[tuple[float, str, str]] = field(default_factory=list)
    """Ejections and recoveries from the start: when, which instance, what `done` has told."""

    def percentile(self, p: float) -> float:
        """Milliseconds that `p` percent of the answered requests do not exceed."""
        if not self.latencies:
            return nan
        return 1000 * self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * p / 100))]

    @property
    def p50(self) -> float:
        return self.percentile(50)

    @property
    def p99(self) -> float:
        return self.percentile(99)

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return len(self.latencies) / self.seconds

    @property
    def errors(self) -> float:
        """The share of requests that failed in the end."""
        return self.failed / max(1, self.failed + len(self.latencies))

    def share(self, name: str) -> float:
        """The share of the requests that an instance had."""
        return self.answered_by[name] / max(1, self.answered_by.total())

    @property
    def ejections(self) -> list[tuple[float, str, str]]:
        return [each for each in self.changes if each[2] != "recovered"]


class Simulation:
    def __init__(
        self, policy: By, instances: Sequence[Instance], *, eject: bool, retry: bool, clients: int, seed: int
    ) -> None:
        self.policy = policy
        self.resends_refused = eject or retry
        self.retry = retry
        self.luck = random.Random(seed)
        self.instances = {each.name: each for each in instances}
        self.callers = [
            Caller(Balancer(luck=self.luck.random, eject=eject), RetryBudget()) for _ in range(clients)
        ]
        self.now = 0.0
        self.result = Result(1.0)
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._again: Callable[[Caller], None] = lambda _: None
        for begins in sorted({each.begins for each in instances}):
            self.after(begins, self._members)

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heappush(self._events, (self.now + seconds, next(self._order), what))

    def _members(self) -> None:
        there = {each.name: each.weight for each in self.instances.values() if each.begins <= self.now}
        if self.policy != "weighted_round_robin":
            there = dict.fromkeys(there, 1.0)
        for caller in self.callers:
            caller.balancer.update(there, self.now)

    # -- callers ----------------------------------------------------------------------------------------

    def run(self, seconds: float, *, rate: float = 0.0, in_flight: int = 0, warm: float = 1.0) -> Result:
        """Send so many requests a second at random times, or keep so many in flight; count what is sent once it is warm."""
        self.warm, self.end = warm, seconds
        self.result = Result(seconds - warm)
        if in_flight:
            self._again = self._send_first
            for at in range(in_flight):
                caller = self.callers[at % len(self.callers)]
                self.after(0.0, lambda caller=caller: self._send_first(caller))  # type: ignore[misc]
        else:
            arrivals = self._arrivals(rate)
            self.after(0.0, lambda: self._arrive(arrivals))
        while self._events:
            self.now, _, what = heappop(self._events)
            what()
        self.result.latencies.sort()
        return self.result

    def _arrivals(self, rate: float) -> Iterator[float]:
        while True:
            yield self.luck.expovariate(rate)

    def _arrive(self, arrivals: Iterator[float]) -> None:
        self._send_first(self.callers[next(self._order) % len(self.callers)])
        if self.now < self.end:
            self.after(next(arrivals), lambda: self._arrive(arrivals))

    def _send_first(self, caller: Caller) -> None:
        if self.now < self.end:
            caller.budget.deposit(self.now)
            self._send(Request(caller, self.now))

    def _send(self, request: Request) -> bool:
        if self.policy == "queue group":
            names = [name for name in self.instances if name not in request.tried]
            backend, name = None, names[int(self.luck.random() * len(names))] if names else ""
        else:
            backend = request.caller.balancer.pick(self.policy, self.now, request.tried)
            name = backend.name if backend is not None else ""
        if not name:
            return False
        request.tried.append(name)
        tried = Try(request, self.now, backend)
        self.after(ON_THE_WAY_SECONDS, lambda: self._reach(self.instances[name], tried))
        return True

    def _ended(self, tried: Try, how: Ended) -> None:
        request = tried.request
        if tried.backend is not None:
            changed = request.caller.balancer.done(tried.backend, self.now, self.now - tried.sent, how)
            if changed is not None:
                self.result.changes.append((self.now, tried.backend.name, changed))
        again = (how == "overloaded" and self.resends_refused) or (
            how == "failed" and self.retry and request.caller.budget.withdraw(self.now)
        )
        if again and self._send(request):
            return
        if self.warm <= request.sent:
            self.result.answered_by[request.tried[-1]] += 1
            if how == "answered":
                self.result.latencies.append(self.now - request.sent)
            else:
                self.result.failed += 1
        self._again(request.caller)

    # -- instances --------------------------------------------------------------------------------------

    def _reach(self, instance: Instance, tried: Try) -> None:
        if instance.running < instance.slots:
            self._work(instance, tried)
        elif len(instance.queue) < instance.waiting:
            instance.queue.append(tried)
        else:
            self.after(ON_THE_WAY_SECONDS, lambda: self._ended(tried, "overloaded"))

    def _work(self, instance: Instance, tried: Try) -> None:
        instance.running += 1
        seconds, failed = instance.work(self.luck)
        self.after(seconds, lambda: self._worked(instance, tried, "failed" if failed else "answered"))

    def _worked(self, instance: Instance, tried: Try, how: Ended) -> None:
        instance.running -= 1
        self.after(ON_THE_WAY_SECONDS, lambda: self._ended(tried, how))
        if instance.queue:
            self._work(instance, instance.queue.popleft())


def simulate(
    policy: By,
    *,
    eject: bool = True,
    retry: bool = True,
    closed: bool = False,
    clients: int = 1,
    seconds: float = 3.0,
    warm: float = 1.0,
    rate: float = 2000.0,
    in_flight: int = 48,
    instances: Sequence[Instance] | None = None,
    seed: int = 1,
) -> Result:
    """Run callers for so many seconds: open, `rate` requests a second; closed, `in_flight` at any time."""
    simulation = Simulation(
        policy, instances or usual(), eject=eject, retry=retry, clients=clients, seed=seed
    )
    return simulation.run(seconds, rate=rate, in_flight=in_flight if closed else 0, warm=warm)


def table(*, closed: bool, clients: int) -> Iterator[str]:
    """The rows of one table: each policy without ejection, with it, and with retries too."""
    policies: tuple[By, ...] = ("queue group", *POLICIES)
    for policy in policies:
        cells = []
        for eject, retry in ((False, False), (True, False), (True, True)):
            if policy == "queue group" and eject:
                cells.append("–")
                continue
            it = simulate(policy, eject=eject, retry=retry, closed=closed, clients=clients)
            cells.append(f"{it.rate:,.0f}/s {it.p50:.1f}/{it.p99:.0f} ms {100 * it.errors:.2f}%")
        yield f"| {policy} | {' | '.join(cells)} |"


if __name__ == "__main__":
    for closed in (False, True):
        for clients in (1, 16):
            print(f"\n{'closed, 48 in flight' if closed else 'open, 2,000/s'}, {clients} clients")
            print("| policy | no ejection: answered, p50/p99, errors | ejection | ejection and retries |")
            print("|---|---|---|---|")
            for row in table(closed=closed, clients=clients):
                print(row)
