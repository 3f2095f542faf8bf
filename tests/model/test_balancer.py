"""A model of a caller and its instances: requests end in any order and any way, instances come, go, and stop answering."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.core.balancer import POLICIES, Backend, Balancer, Ended, Policy

NAMES = "abcdef"
ENDS: list[Ended] = ["answered", "failed", "overloaded", "withdrawn"]


class Requests(RuleBasedStateMachine):
    """What is on its way, beside what the balancer believes."""

    def __init__(self) -> None:
        super().__init__()
        self.balancer = Balancer(luck=Random(1).random)
        self.now = 100.0
        self.open: list[tuple[Backend, float]] = []
        self.seen: list[Backend] = []

    @rule(weights=st.dictionaries(st.sampled_from(NAMES), st.floats(0.1, 10.0)))
    def instances_are_told(self, weights: dict[str, float]) -> None:
        self.balancer.update(weights, self.now)
        assert {name: each.weight for name, each in self.balancer.backends.items()} == weights

    @rule(name=st.sampled_from(NAMES))
    def one_comes(self, name: str) -> None:
        weights = {each.name: each.weight for each in self.balancer.backends.values()}
        self.balancer.update({**weights, name: 1.0}, self.now)

    @rule(name=st.sampled_from(NAMES))
    def one_goes(self, name: str) -> None:
        self.balancer.remove(name)
        assert name not in self.balancer.backends

    @rule(seconds=st.sampled_from([0.001, 0.03, 0.2, 1.0, 5.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        policy=st.sampled_from(POLICIES),
        tried=st.sets(st.sampled_from(NAMES), max_size=4),
        times=st.integers(1, 6),
    )
    def requests_are_sent(self, policy: Policy, tried: set[str], times: int) -> None:
        for _ in range(times):
            self.one_is_sent(policy, tried)

    def one_is_sent(self, policy: Policy, tried: set[str]) -> None:
        left = [each for name, each in self.balancer.backends.items() if name not in tried]
        healthy = [each for each in left if each.state(self.now) == "healthy"]
        untried = [each for each in left if each.state(self.now) == "trial" and self.trials(each) == 0]
        chosen = self.balancer.pick(policy, self.now, tried)
        if not left:
            assert chosen is None
            return
        assert chosen in left
        assert chosen is not None
        if healthy:
            assert chosen in healthy or (chosen in untried and not tried)
        self.open.append((chosen, self.now))
        self.seen.append(chosen)

    def trials(self, backend: Backend) -> int:
        """Requests on their way that were sent since its trials began."""
        return sum(each is backend and sent >= backend.ejected_until for each, sent in self.open)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), ended=st.sampled_from(ENDS), times=st.integers(1, 6))
    def requests_end(self, data: st.DataObject, ended: Ended, times: int) -> None:
        first = data.draw(st.integers(0, len(self.open) - 1))
        for backend, sent in self.open[first : first + times]:
            out = self.ejected()
            told = self.balancer.done(backend, self.now, self.now - sent, ended)
            assert (
                told is None
                or self.balancer.backends.get(backend.name) is backend
                or told
                in {
                    "recovered",
                    "trial failed",
                }
            )
            if told in {"consecutive failures", "success rate", "latency"}:
                assert out + 1 <= len(self.balancer.backends) // 2
                assert backend.state(self.now) == "ejected"
            if told is None:
                assert self.ejected() == out
            if ended == "withdrawn":
                assert told is None
        del self.open[first : first + times]

    def ejected(self) -> int:
        return sum(each.ejected_until > 0.0 for each in self.balancer.backends.values())

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def one_stops_answering(self, data: st.DataObject) -> None:
        backend = data.draw(st.sampled_from(self.seen))
        self.balancer.suspend(backend, self.now)
        if self.balancer.backends.get(backend.name) is backend:
            assert backend.state(self.now) == "ejected"

    @invariant()
    def what_is_on_its_way_is_counted(self) -> None:
        for backend in {*self.seen, *self.balancer.backends.values()}:
            assert backend.outstanding == sum(each is backend for each, _ in self.open) >= 0

    @invariant()
    def no_ejection_lasts_longer_than_75_seconds(self) -> None:
        for backend in self.balancer.backends.values():
            assert backend.ejected_until <= self.now + 75.0
            assert 0.0 <= backend.success <= 1.0

    def teardown(self) -> None:
        for backend, sent in self.open:
            self.balancer.done(backend, self.now, self.now - sent, "answered")
        assert all(each.outstanding == 0 for each in self.seen)


TestRequests = Requests.TestCase
