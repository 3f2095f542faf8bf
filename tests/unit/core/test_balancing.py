"""Callers and instances, simulated: what the policies, ejection and retries are good for, one beside the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from runner.core.balancer import POLICIES, Policy
from tests.support.balancing import Instance, Result, Simulation, Work, simulate, works

SEEDS = range(1, 13)
Load = Literal["open", "closed"]


def equal(work: Work, instances: int = 5) -> list[Instance]:
    return [Instance("abcdefgh"[at], work) for at in range(instances)]


def without(policy: Policy, load: Load, clients: int) -> Result:
    """Neither ejection nor retries."""
    return simulate(policy, eject=False, retry=False, closed=load == "closed", clients=clients)


@pytest.mark.parametrize("clients", [1, 16])
def test_peak_ewma_avoids_a_slow_instance_without_any_ejection(clients: int) -> None:
    peak, turns = without("peak_ewma", "open", clients), without("round_robin", "open", clients)
    assert peak.p99 < 80
    assert turns.p99 > 5 * peak.p99
    assert peak.share("slow") < 0.02
    assert turns.share("slow") > 4 * peak.share("slow")


@pytest.mark.parametrize("clients", [1, 16])
def test_in_a_closed_loop_one_slow_instance_holds_all_up_but_with_peak_ewma(clients: int) -> None:
    peak, turns = without("peak_ewma", "closed", clients), without("round_robin", "closed", clients)
    assert peak.rate > 4 * turns.rate
    assert without("least_requests", "closed", clients).rate > 2 * turns.rate


@pytest.mark.parametrize("policy", POLICIES)
def test_without_ejection_an_instance_that_fails_quickly_fails_one_request_in_ten(policy: Policy) -> None:
    assert without(policy, "open", 1).errors > 0.10


@pytest.mark.parametrize("load", ["open", "closed"])
@pytest.mark.parametrize("policy", POLICIES)
def test_for_one_busy_caller_ejection_and_retries_make_every_policy_good(policy: Policy, load: Load) -> None:
    it = simulate(policy, closed=load == "closed")
    assert it.errors == 0
    assert it.p99 < 80
    assert it.rate > (1900 if load == "open" else 4000)
    assert {"failing"} <= {name for _, name, _ in it.ejections} <= {"failing", "slow"}


@pytest.mark.parametrize("load", ["open", "closed"])
@pytest.mark.parametrize("policy", POLICIES)
def test_no_request_of_16_callers_fails_with_ejection_and_retries(policy: Policy, load: Load) -> None:
    assert simulate(policy, closed=load == "closed", clients=16).errors == 0


@pytest.mark.parametrize("load", ["open", "closed"])
def test_callers_with_few_requests_need_peak_ewma_for_they_find_a_slow_instance_late(load: Load) -> None:
    peak = simulate("peak_ewma", closed=load == "closed", clients=16)
    turns = simulate("round_robin", closed=load == "closed", clients=16)
    assert peak.p99 < 80
    assert turns.p99 > 4 * peak.p99


@pytest.mark.parametrize("policy", ["round_robin", "least_requests"])
def test_in_time_16_callers_have_found_it_too(policy: Policy) -> None:
    it = simulate(policy, clients=16, seconds=24, warm=20)
    assert it.share("slow") < 0.03
    assert it.errors == 0


# -- nobody healthy is ejected --------------------------------------------------------------------------

SLOW_AT_TIMES = {
    "one in a hundred takes half a second": works(0.010, slow=0.01),
    "one in ten takes half a second": works(0.010, slow=0.10),
    "half are quick, half take 50 times as long": works(0.001, slow=0.5, slow_seconds=0.05),
}


@pytest.mark.parametrize("policy", ["peak_ewma", "round_robin"])
@pytest.mark.parametrize("work", SLOW_AT_TIMES.values(), ids=SLOW_AT_TIMES)
def test_none_of_five_equal_instances_is_ejected_in_twelve_runs(work: Work, policy: Policy) -> None:
    ejected = [
        simulate(policy, instances=equal(work), rate=400, seconds=10, seed=seed).changes for seed in SEEDS
    ]
    assert ejected == [[]] * 12


@pytest.mark.parametrize("policy", POLICIES)
def test_equal_instances_are_used_equally(policy: Policy) -> None:
    it = simulate(policy, instances=equal(works(0.010)))
    assert it.changes == []
    assert all(0.14 < it.share(name) < 0.26 for name in "abcde"), it.answered_by


# -- instances that come, and that change ---------------------------------------------------------------


def late(policy: Policy, work: Work) -> Result:
    """A fifth instance comes after two seconds; counted from then on, for half a second."""
    there: Sequence[Instance] = [*equal(works(0.010), 4), Instance("new", work, begins=2.0)]
    return simulate(policy, instances=there, seconds=2.5, warm=2.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_new_instance_is_neither_flooded_nor_starved(policy: Policy) -> None:
    assert 0.12 < late(policy, works(0.010)).share("new") < 0.32


def test_a_new_instance_that_is_slow_gets_next_to_nothing_by_peak_ewma() -> None:
    assert late("peak_ewma", works(0.100)).share("new") < 0.05


def changing(policy: Policy, *, until: float, seconds: float, warm: float, **bad: float) -> Result:
    """One of five is bad for a while, from the start on."""
    luck_now: list[Simulation] = []
    good, ill = works(0.010), works(bad.pop("takes", 0.010), **bad)

    def work(luck: object) -> tuple[float, bool]:
        simulation = luck_now[0]
        return (ill if simulation.now < until else good)(simulation.luck)

    there = [*equal(good, 4), Instance("ill", work)]
    luck_now.append(Simulation(policy, there, eject=True, retry=True, clients=1, seed=3))
    return luck_now[0].run(seconds, rate=1000, warm=warm)


@pytest.mark.parametrize("bad", [{"fails": 1.0}, {"takes": 0.2}], ids=["failing", "slow"])
@pytest.mark.parametrize("policy", ["peak_ewma", "round_robin"])
def test_an_instance_that_is_well_again_has_its_share_again(policy: Policy, bad: dict[str, float]) -> None:
    it = changing(policy, until=3.0, seconds=40.0, warm=36.0, **bad)
    assert it.share("ill") > 0.10
    assert it.errors == 0


def test_all_that_fail_lose_nobody_for_longer_than_they_fail() -> None:
    """Half are ejected, the others fail on; once they are well all is well, whoever is still ejected."""
    simulation: list[Simulation] = []

    def work(luck: object) -> tuple[float, bool]:
        return (0.01, True) if simulation[0].now < 5.0 else works(0.010)(simulation[0].luck)

    simulation.append(Simulation("peak_ewma", equal(work), eject=True, retry=False, clients=1, seed=1))
    it = simulation[0].run(8.0, rate=500, warm=5.5)
    ejected = {name for _, name, _ in it.ejections}
    assert len(ejected) <= 2
    assert it.errors == 0
    assert it.p99 < 80


def test_retries_stay_within_their_budget_where_everything_fails() -> None:
    asked = 0

    def work(luck: object) -> tuple[float, bool]:
        nonlocal asked
        asked += 1
        return 0.001, True

    it = simulate("peak_ewma", instances=equal(work), seconds=10, warm=0.0, rate=1000)
    assert it.errors == 1.0
    assert asked < it.failed * 1.2 + 100 + 10 * 10
