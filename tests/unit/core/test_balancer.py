"""Which instance gets the next request: by policy and weight, and by what is known of each."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.balancer import POLICIES, Backend, Balancer, Ended, Policy

EQUAL = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}


def balancer(weights: dict[str, float] = EQUAL, *, eject: bool = True) -> Balancer:
    made = Balancer(luck=Random(7).random, eject=eject)
    made.update(weights, 0.0)
    return made


def ask(
    it: Balancer,
    now: float,
    seconds: float = 0.01,
    ended: Ended = "answered",
    *,
    policy: Policy = "peak_ewma",
) -> Backend:
    """One request that is over before the next begins."""
    backend = it.pick(policy, now - seconds)
    assert backend is not None
    it.done(backend, now, seconds, ended)
    return backend


def fail(it: Balancer, name: str, now: float, times: int = 5) -> list[str | None]:
    """Failures of one instance, whatever the policy would choose; what each has changed."""
    others = set(it.backends) - {name}
    told = []
    for _ in range(times):
        backend = it.pick("random", now, others)
        assert backend is not None
        told.append(it.done(backend, now, 0.0, "failed"))
    return told


def answer(it: Balancer, name: str, now: float, seconds: float = 0.01, times: int = 1) -> list[str | None]:
    """The same with answers."""
    others = set(it.backends) - {name}
    told = []
    for _ in range(times):
        backend = it.pick("random", now - seconds, others)
        assert backend is not None
        told.append(it.done(backend, now, seconds, "answered"))
    return told


def chosen(it: Balancer, policy: Policy, times: int, now: float = 1.0) -> Counter[str]:
    """How often each is chosen, where each request is over before the next begins."""
    return Counter(ask(it, now + at / 1000, policy=policy).name for at in range(times))


def after_ejection(it: Balancer, name: str) -> float:
    return it.backends[name].ejected_until + 0.001


# -- the policies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_equal_instances_get_equal_shares(policy: Policy) -> None:
    counts = chosen(balancer(), policy, 8000)
    assert set(counts) == set(EQUAL)
    assert min(counts.values()) > 1600
    assert max(counts.values()) < 2400


@pytest.mark.parametrize("policy", POLICIES)
def test_shares_are_equal_with_many_requests_on_their_way(policy: Policy) -> None:
    it = balancer()
    for at in range(200):
        answer(it, "abcd"[at % 4], at / 1000)
    picks = Counter(backend.name for _ in range(400) if (backend := it.pick(policy, 1.0)))
    assert all(70 <= picks[name] <= 130 for name in EQUAL), picks


def test_round_robin_goes_round_exactly() -> None:
    it = balancer()
    names = [ask(it, at / 1000, policy="round_robin").name for at in range(12)]
    assert names[:4] == names[4:8] == names[8:]
    assert sorted(names[:4]) == sorted(EQUAL)


def test_callers_that_start_together_do_not_all_begin_with_the_same_instance() -> None:
    firsts = set()
    for seed in range(20):
        it = Balancer(luck=Random(seed).random)
        it.update(EQUAL, 0.0)
        firsts.add(ask(it, 0.1, policy="round_robin").name)
    assert firsts == set(EQUAL)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=40, max_size=40))
def test_members_that_come_and_go_favour_nobody_in_round_robin(toggled: list[str]) -> None:
    it = balancer(dict.fromkeys("abcdefghxyz", 1.0))
    counts: Counter[str] = Counter()
    for at, name in enumerate(toggled):
        counts[ask(it, at / 1000, policy="round_robin").name] += 1
        if name in it.backends:
            it.remove(name)
        else:
            it.update(dict.fromkeys([*it.backends, name], 1.0), at / 1000)
    assert max(counts[name] for name in "xyz") - min(counts[name] for name in "xyz") <= 1


@pytest.mark.parametrize("policy", ["peak_ewma", "least_requests", "weighted_round_robin"])
def test_with_a_full_load_an_instance_gets_what_it_weighs(policy: Policy) -> None:
    it = balancer({"heavy": 4.0, "middle": 2.0, "light": 1.0, "other": 1.0})
    for name in it.backends:
        answer(it, name, 0.5)
    for _ in range(800):
        it.pick(policy, 1.0)
    shares = {name: each.outstanding for name, each in it.backends.items()}
    assert 370 <= shares["heavy"] <= 430, shares
    assert 180 <= shares["middle"] <= 230, shares
    assert 80 <= shares["light"] <= 120, shares


@pytest.mark.parametrize("policy", ["round_robin", "random"])
def test_round_robin_and_random_do_not_look_at_weights(policy: Policy) -> None:
    counts = chosen(balancer({"heavy": 100.0, "light": 1.0}), policy, 1000)
    assert 400 < counts["heavy"] < 600


def test_weighted_round_robin_has_no_bursts() -> None:
    it = balancer({"a": 5.0, "b": 1.0, "c": 1.0})
    names = "".join(ask(it, at / 1000, policy="weighted_round_robin").name for at in range(14))
    assert names == "aabacaa" * 2


def test_a_weight_that_changes_counts_from_the_next_request_on() -> None:
    it = balancer({"a": 1.0, "b": 1.0})
    chosen(it, "weighted_round_robin", 10)
    it.update({"a": 9.0, "b": 1.0}, 1.0)
    assert chosen(it, "weighted_round_robin", 100)["a"] in {89, 90, 91}


@pytest.mark.parametrize("policy", POLICIES)
def test_one_instance_gets_all(policy: Policy) -> None:
    assert chosen(balancer({"only": 1.0}), policy, 10) == {"only": 10}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_retry_goes_where_it_has_not_been_until_all_were_tried(policy: Policy) -> None:
    it = balancer()
    tried: list[str] = []
    while (backend := it.pick(policy, 1.0, tried)) is not None:
        tried.append(backend.name)
    assert sorted(tried) == sorted(EQUAL)


def test_without_instances_there_is_none() -> None:
    it = Balancer(luck=Random(1).random)
    assert it.pick("peak_ewma", 0.0) is None
    it.update({"a": 1.0}, 0.0)
    it.remove("a")
    it.remove("a")
    assert it.pick("peak_ewma", 0.0) is None


# -- members --------------------------------------------------------------------------------------------


def test_an_update_keeps_what_is_known_of_those_that_stay() -> None:
    it = balancer()
    a, b = it.backends["a"], it.backends["b"]
    answer(it, "a", 1.0, 0.02)
    fail(it, "b", 1.0)
    it.update({"a": 2.0, "b": 1.0, "e": 1.0}, 1.0)
    assert list(it.backends) == ["a", "b", "e"]
    assert (it.backends["a"], it.backends["b"]) == (a, b)
    assert (a.weight, b.state(1.0)) == (2.0, "ejected")
    assert a.latency == pytest.approx(0.02)
    assert {ask(it, 1.1, policy="round_robin").name for _ in range(4)} == {"a", "e"}


def test_what_comes_from_an_instance_that_is_gone_changes_nothing_for_the_others() -> None:
    it = balancer()
    gone = [it.pick("random", 1.0, ["b", "c", "d"]) for _ in range(10)]
    it.remove("a")
    it.update(EQUAL, 1.0)
    for backend in gone:
        assert backend is not None
        assert it.done(backend, 1.1, 0.1, "failed") is None
    assert gone[0] is not None
    it.suspend(gone[0], 1.1)
    assert gone[0].outstanding == 0
    assert it.backends["a"].state(1.1) == "healthy"
    assert it.backends["a"].success == 1.0


# -- peak_ewma: slow and new instances ------------------------------------------------------------------


def test_a_slow_answer_counts_at_once_and_is_forgotten_by_and_by() -> None:
    it = balancer({"a": 1.0, "b": 1.0}, eject=False)
    answer(it, "a", 1.0)
    answer(it, "b", 1.0)
    answer(it, "b", 1.1, 1.0)
    assert chosen(it, "peak_ewma", 100, 1.2) == {"a": 100}
    assert it.backends["b"].cost(11.1) == pytest.approx(1.0 / 2.718, rel=0.01)
    assert chosen(it, "peak_ewma", 20_000, 30.0)["b"] > 0, (
        "it is tried again while the other is asked all the time"
    )


def test_a_new_instance_gets_one_request_until_it_has_answered() -> None:
    it = balancer()
    for name in EQUAL:
        answer(it, name, 1.0, times=50)
    it.update({**EQUAL, "new": 1.0}, 1.0)
    for _ in range(100):
        it.pick("peak_ewma", 1.0)
    assert it.backends["new"].outstanding == 1


def test_a_new_instance_that_answers_quickly_begins_where_the_others_are() -> None:
    it = balancer()
    for name in EQUAL:
        answer(it, name, 1.0, times=50)
    it.update({**EQUAL, "new": 1.0}, 1.0)
    answer(it, "new", 1.0, 0.0001)
    for _ in range(100):
        it.pick("peak_ewma", 1.0)
    assert it.backends["new"].outstanding in range(15, 26), "not flooded, and not starved"


def test_a_new_instance_that_is_slow_is_known_as_such_from_its_first_answer_on() -> None:
    it = balancer(eject=False)
    for name in EQUAL:
        answer(it, name, 1.0)
    it.update({**EQUAL, "new": 1.0}, 1.0)
    answer(it, "new", 1.0, 1.0)
    assert "new" not in chosen(it, "peak_ewma", 200)


def test_requests_are_parted_among_instances_none_of_which_has_answered() -> None:
    it = balancer()
    for _ in range(100):
        it.pick("peak_ewma", 1.0)
    assert all(20 <= each.outstanding <= 30 for each in it.backends.values())


def test_a_quick_failure_makes_an_instance_no_cheaper() -> None:
    it = balancer({"a": 1.0, "b": 1.0}, eject=False)
    answer(it, "a", 1.0)
    answer(it, "b", 1.0, 0.011)
    before = it.backends["b"].cost(1.0)
    fail(it, "b", 1.1, 50)
    assert it.backends["b"].cost(1.1) >= before
    fail(it, "b", 100.0, 1)
    assert it.backends["b"].cost(100.0) >= before


# -- ejection -------------------------------------------------------------------------------------------


def test_an_instance_is_ejected_after_five_failures_in_a_row() -> None:
    it = balancer()
    assert fail(it, "a", 1.0) == [None] * 4 + ["consecutive failures"]
    assert it.backends["a"].state(1.0) == "ejected"
    assert 1.75 <= it.backends["a"].ejected_until <= 2.25
    assert "a" not in chosen(it, "random", 200, 1.01)


def test_an_answer_between_failures_begins_the_count_again() -> None:
    it = balancer()
    for _ in range(4):
        fail(it, "a", 1.0, 3)
        answer(it, "a", 1.0, times=2)
    assert it.backends["a"].state(1.0) == "healthy"


def test_an_instance_that_fails_every_second_time_is_ejected_for_its_success_after_20_at_least() -> None:
    it = balancer()
    told = []
    for _ in range(20):
        told += answer(it, "a", 1.0) + fail(it, "a", 1.0, 1)
        if told[-1]:
            break
    assert told[-1] == "success rate"
    assert 20 <= len(told) <= 30


def test_one_failure_in_twenty_ejects_nobody() -> None:
    it = balancer()
    for _ in range(100):
        answer(it, "a", 1.0, times=19)
        assert fail(it, "a", 1.0, 1) == [None]


def test_an_instance_that_is_ten_times_slower_is_ejected_after_50_answers() -> None:
    it = balancer()
    for name in "bcd":
        answer(it, name, 1.0, times=50)
    assert answer(it, "a", 1.0, 0.1, times=50) == [None] * 49 + ["latency"]


def test_an_instance_that_becomes_slow_is_ejected_within_50_answers() -> None:
    it = balancer()
    for name in EQUAL:
        answer(it, name, 1.0, times=1000)
    told = answer(it, "a", 1.2, 0.1, times=50)
    assert "latency" in told


def test_of_two_the_slow_one_is_ejected() -> None:
    it = balancer({"a": 1.0, "b": 1.0})
    answer(it, "b", 1.0, times=50)
    assert "latency" in answer(it, "a", 1.1, 0.1, times=50)
    assert it.backends["b"].state(1.1) == "healthy"


def test_milliseconds_eject_nobody() -> None:
    it = balancer()
    for name in "bcd":
        answer(it, name, 1.0, 0.0005, times=50)
    assert answer(it, "a", 1.0, 0.004, times=500) == [None] * 500


@pytest.mark.parametrize(("instances", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_never_more_than_half_are_ejected_for_failures(instances: int, most: int) -> None:
    it = balancer(dict.fromkeys("abcde"[:instances], 1.0))
    for name in it.backends:
        fail(it, name, 1.0, 30)
    assert sum(each.state(1.0) == "ejected" for each in it.backends.values()) == most
    assert all(each.outstanding == 0 for each in it.backends.values())


def test_without_ejection_nobody_is_ejected() -> None:
    it = balancer(eject=False)
    assert fail(it, "a", 1.0, 50) == [None] * 50
    it.suspend(it.backends["a"], 1.0)
    assert it.backends["a"].state(1.0) == "healthy"


def test_an_instance_that_does_not_answer_is_ejected_at_once_and_again_while_that_lasts() -> None:
    it = balancer({"a": 1.0, "b": 1.0})
    a = it.backends["a"]
    it.suspend(a, 1.0)
    until = a.ejected_until
    it.suspend(a, 1.05)
    assert (a.state(1.05), a.ejected_until, a.ejections) == ("ejected", until, 1)
    now = after_ejection(it, "a")
    assert it.pick("peak_ewma", now) is a
    it.suspend(a, now + 0.05)
    assert (a.state(now + 0.05), a.ejections) == ("ejected", 2)
    it.suspend(it.backends["b"], now + 0.05)
    assert it.backends["b"].state(now + 0.05) == "ejected", "however many others are"


# -- trials ---------------------------------------------------------------------------------------------


def test_one_request_at_a_time_tries_an_ejected_instance_and_three_good_ones_bring_it_back() -> None:
    it = balancer()
    fail(it, "a", 1.0)
    now, a = after_ejection(it, "a"), it.backends["a"]
    assert a.state(now) == "trial"
    for told in (None, None, "recovered"):
        assert it.pick("peak_ewma", now) is a
        assert all(it.pick("peak_ewma", now) is not a for _ in range(20))
        assert it.done(a, now + 0.01, 0.01, "answered") == told
        now += 0.01
    assert a.state(now) == "healthy"
    assert a.ejections == 1


def test_a_failed_trial_ejects_again_for_twice_as_long() -> None:
    it = balancer()
    fail(it, "a", 1.0)
    a = it.backends["a"]
    for length in (2, 4, 8, 16, 32, 60, 60):
        now = after_ejection(it, "a")
        assert it.pick("random", now) is a
        assert it.done(a, now, 0.0, "failed") == "trial failed"
        assert 0.75 * length <= a.ejected_until - now <= 1.25 * length


def test_ejections_of_long_ago_are_forgotten() -> None:
    it = balancer()
    for length, gap in ((1, 1.0), (2, 1.0), (4, 1.0), (2, 130.0), (1, 1e6)):
        now = it.backends["a"].begun + gap if it.backends["a"].ejections else 1.0
        fail(it, "a", now)
        assert 0.75 * length <= it.backends["a"].ejected_until - now <= 1.25 * length
        back = after_ejection(it, "a")
        assert answer(it, "a", back, 0.0, times=3)[-1] == "recovered"


def test_a_trial_that_is_withdrawn_is_undecided() -> None:
    it = balancer()
    fail(it, "a", 1.0)
    now, a = after_ejection(it, "a"), it.backends["a"]
    assert it.pick("random", now) is a
    assert it.done(a, now + 0.1, 0.1, "withdrawn") is None
    assert a.state(now + 0.1) == "trial"
    assert it.pick("random", now + 0.1) is a


def test_an_overloaded_trial_is_another_one_a_little_later() -> None:
    it = balancer()
    fail(it, "a", 1.0)
    now, a = after_ejection(it, "a"), it.backends["a"]
    assert it.pick("random", now) is a
    assert it.done(a, now, 0.0, "overloaded") is None
    assert a.ejections == 1
    assert it.pick("random", now + 0.04) is not a
    assert it.pick("random", now + 0.11) is a


def test_a_retry_is_no_trial() -> None:
    it = balancer()
    fail(it, "a", 1.0)
    now = after_ejection(it, "a")
    assert all(it.pick("random", now, ["b"]) is not it.backends["a"] for _ in range(20))


def test_a_retry_for_which_nothing_else_is_left_is_a_trial() -> None:
    it = balancer({"a": 1.0, "b": 1.0})
    fail(it, "a", 1.0)
    now, a = after_ejection(it, "a"), it.backends["a"]
    assert it.pick("random", now, ["b"]) is a
    assert it.pick("random", now) is not a
    assert it.done(a, now + 0.1, 0.1, "failed") == "trial failed"


def test_what_was_sent_before_an_ejection_says_nothing_about_the_time_after_it() -> None:
    it = balancer()
    old = [it.pick("random", 0.5, ["b", "c", "d"]) for _ in range(20)]
    a = it.backends["a"]
    assert all(each is a for each in old)
    it.suspend(a, 1.0)
    now = after_ejection(it, "a")
    assert it.pick("random", now) is a
    for _ in range(10):
        assert it.done(a, now, now - 0.5, "failed") is None
    assert all(it.pick("random", now) is not a for _ in range(20)), "its trial is still on its way"
    assert it.done(a, now + 0.01, 0.01, "answered") is None
    answer(it, "a", now + 0.02, times=2)
    assert a.state(now + 0.02) == "healthy"
    for _ in range(10):
        assert it.done(a, now + 0.03, now + 0.03 - 0.5, "failed") is None
    assert (a.state(now + 0.03), a.success, a.outstanding) == ("healthy", 1.0, 0)


def test_a_slow_trial_fails_where_slowness_was_the_reason_only() -> None:
    it = balancer()
    for name in EQUAL:
        answer(it, name, 1.0, times=50)
    assert "latency" in answer(it, "a", 1.2, 0.1, times=50)
    fail(it, "b", 1.2)
    assert answer(it, "b", after_ejection(it, "b") + 0.1, 0.1, times=3)[-1] == "recovered"
    now, a = after_ejection(it, "a"), it.backends["a"]
    assert it.pick("peak_ewma", now) is a
    assert it.done(a, now + 0.1, 0.1, "answered") == "trial failed"
    now = after_ejection(it, "a")
    assert answer(it, "a", now + 0.02, 0.02, times=3)[-1] == "recovered"


def test_an_instance_that_came_back_is_not_flooded() -> None:
    it = balancer()
    for name in "bcd":
        answer(it, name, 1.0, times=50)
    fail(it, "a", 1.0)
    now = after_ejection(it, "a")
    for name in "bcd":
        answer(it, name, now)
    answer(it, "a", now, 0.0001, times=3)
    for _ in range(100):
        it.pick("peak_ewma", now)
    assert it.backends["a"].outstanding == 1


# -- overload -------------------------------------------------------------------------------------------


def test_an_overloaded_instance_rests_for_50_to_100_ms_and_has_not_failed() -> None:
    it = balancer()
    a = it.backends["a"]
    for at in range(10):
        assert it.pick("random", at, ["b", "c", "d"]) is a
        assert it.done(a, at, 0.0, "overloaded") is None
        assert (a.state(at), a.success, a.latency, a.ejections) == ("resting", 1.0, 0.0, 0)
        assert 0.05 <= a.rests_until - at <= 0.1
        assert all(it.pick("peak_ewma", at + 0.04) is not a for _ in range(20))
    assert a.state(9.1) == "healthy"
    assert a in [it.pick("round_robin", 9.1) for _ in range(4)]


# -- where nobody is healthy ----------------------------------------------------------------------------


def test_where_all_rest_the_one_is_asked_whose_rest_ends_first() -> None:
    it = balancer()
    for name in EQUAL:
        others = set(EQUAL) - {name}
        backend = it.pick("random", 1.0, others)
        assert backend is not None
        it.done(backend, 1.0, 0.0, "overloaded")
    first = min(it.backends.values(), key=lambda each: each.rests_until)
    assert it.pick("peak_ewma", 1.01) is first
    assert it.pick("peak_ewma", 1.01, [first.name]) not in {first, None}


def test_one_that_rests_is_asked_before_one_that_is_ejected() -> None:
    it = balancer({"a": 1.0, "b": 1.0})
    it.suspend(it.backends["a"], 1.0)
    b = it.pick("random", 1.7)
    assert b is it.backends["b"]
    it.done(b, 1.7, 0.0, "overloaded")
    assert it.pick("random", 1.7) is b


def test_the_only_one_is_asked_though_it_is_ejected() -> None:
    it = balancer({"only": 1.0})
    only = it.backends["only"]
    it.suspend(only, 1.0)
    assert it.pick("peak_ewma", 1.1) is only
    assert it.pick("peak_ewma", 1.1, ["only"]) is None


def test_where_all_are_ejected_one_that_fails_gives_way_to_the_next() -> None:
    it = balancer({"a": 1.0, "b": 1.0, "c": 1.0})
    for each in it.backends.values():
        it.suspend(each, 1.0)
    seen = [ask(it, 1.1, 0.001, "failed").name for _ in range(6)]
    assert sorted(seen[:3]) == sorted(seen[3:]) == ["a", "b", "c"]
    assert all(each.ejections == 1 for each in it.backends.values()), "nobody is punished for being asked"


def test_where_all_are_ejected_the_first_that_answers_three_times_is_back() -> None:
    it = balancer({"a": 1.0, "b": 1.0})
    for each in it.backends.values():
        it.suspend(each, 1.0)
    assert answer(it, "b", 1.1, times=3) == [None, None, "recovered"]
    assert {ask(it, 1.2).name for _ in range(10)} == {"b"}
