"""What lets an instance start ordered work, and what proves the death of another."""

from __future__ import annotations

from math import inf

import pytest

from runner.core.death import Inquest, Sighting
from runner.core.lease import CLAIMS_SECONDS, Lease, bound

B = 0.045


def begun() -> Lease:
    return Lease().began(0.0, 0.1, B).claims_confirmed(0.2)


def test_nothing_starts_before_there_is_a_lease_a_ping_was_answered_and_the_claims_were_confirmed() -> None:
    assert Lease().starts_until == -inf
    assert Lease().began(0.0, 0.1, B).pinged(0.2).starts_until == -inf
    assert begun().starts_until == -inf
    assert begun().pinged(0.3).starts_until == 0.3 + B


def test_work_may_start_until_the_bound_after_the_last_answered_ping_was_sent() -> None:
    lease = begun().pinged(0.3).pinged(0.25)
    assert lease.starts_until == 0.3 + B


def test_a_lease_is_counted_from_sending_its_renewal() -> None:
    assert begun().pinged(2.99).starts_until == 3.0
    assert begun().renewed(2.0, 2.5, B).claims_read(2.1).pinged(4.9).starts_until == 4.9 + B
    assert begun().renewed(2.0, 2.5, B).asks_until == 5.0


@pytest.mark.parametrize("lost", [Lease.lost, Lease.disconnected])
def test_after_a_lapse_the_claims_are_confirmed_anew(lost: object) -> None:
    lease = lost(begun().pinged(0.3))  # type: ignore[operator]
    assert lease.starts_until == lease.asks_until == -inf
    again = lease.renewed(1.0, 1.1, B).pinged(1.2)
    assert again.starts_until == -inf
    assert again.claims_confirmed(1.05).starts_until == -inf, "the confirmation began before the lease did"
    assert again.claims_confirmed(1.1).starts_until == 1.2 + B


def test_work_may_start_for_6_seconds_after_the_claims_were_read() -> None:
    lease = begun().renewed(5.0, 5.1, B).pinged(6.2)
    assert lease.starts_until == 0.2 + CLAIMS_SECONDS
    assert lease.claims_read(2.0).starts_until == 6.2 + B


def test_a_lease_is_unbroken_where_it_was_written_again_before_the_one_of_before_had_run_out() -> None:
    assert begun().unbroken
    assert begun().lost().began(2.9, 2.95, B).unbroken
    late = begun().lost().began(2.9, 3.0, B)
    assert not late.unbroken
    assert not late.claims_confirmed(2.95).unbroken, "the confirmation began before the lease did"
    assert late.claims_confirmed(3.0).unbroken
    assert not begun().disconnected().renewed(0.3, 0.4, B).unbroken


def test_a_larger_bound_counts_once_it_is_confirmed_and_a_smaller_one_at_once() -> None:
    lease = begun()
    assert lease.renewing(0.2).bound == B
    assert lease.renewed(1.0, 1.1, 0.2).bound == 0.2
    assert lease.renewed(1.0, 1.1, 0.2).renewing(B).bound == B


def test_the_bound_is_four_round_trips_and_never_less_than_45_ms() -> None:
    assert bound(0.0) == B
    assert bound(0.001) == B
    assert bound(0.02) == 0.08
    assert bound(5.0) == 1.0


@pytest.mark.parametrize(
    ("inquest", "proved"),
    [
        (Inquest(1.0, 1.0 + 0.046, near=True), True),
        (Inquest(1.0, 1.0 + 0.044, near=True), False),
        (Inquest(1.0, 1.05, near=False), False),
        (Inquest(1.0, 1.05, near=False, witness=0.99), False),
        (Inquest(1.0, 1.05, near=False, witness=0.99, witness_again=1.06), True),
        (Inquest(1.0, 1.05, near=False, witness=0.5, witness_again=1.5), False),
    ],
)
def test_two_probes_a_bound_apart_prove_a_death_and_at_another_server_a_witness_before_and_after(
    inquest: Inquest, proved: bool
) -> None:
    assert inquest.proves(B) == proved


def test_a_lease_that_stands_still_has_run_out_by_the_clock_of_who_looks_at_it() -> None:
    assert not Sighting(7, 1.0).ran_out(4.0)
    assert Sighting(7, 1.0).ran_out(4.2)
    assert not Sighting(7, 1.0, dead=True).ran_out(9.0)
