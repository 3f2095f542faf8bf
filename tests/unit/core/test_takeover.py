"""Who may take a shard, case by case; tests/model/test_owners.py freezes, cuts and loses everything in between."""

from __future__ import annotations

import pytest

from runner.core.takeover import Decision, HandOver, Keep, Lease, Lose, Release, Take, Wait, decide

TTL = 3.0


@pytest.mark.parametrize(
    ("owner", "epoch", "held", "share", "gone", "decision"),
    [
        ("", 0, None, "me", False, Take(1)),
        ("", 7, None, "me", False, Take(8)),
        ("", 7, None, "other", False, Wait()),
        ("other", 7, None, "me", False, Wait()),
        ("other", 7, None, "me", True, Take(8)),
        ("other", 7, None, "third", True, Wait()),
        ("me", 7, None, "me", False, Take(8)),
        ("me", 7, None, "other", False, Release()),
        ("me", 7, None, "", False, Release()),
        ("me", 7, 7, "", False, HandOver()),
        ("me", 7, 7, "me", False, Keep()),
        ("me", 7, 7, "other", False, HandOver()),
        ("other", 8, 7, "me", False, Lose()),
        ("other", 8, 7, "other", True, Lose()),
        ("", 7, 7, "me", False, Lose()),
        ("other", 6, 7, "me", False, Keep()),
        ("me", 8, 7, "me", False, Lose()),
    ],
)
def test_a_shard_is_taken_from_nobody_or_from_who_is_gone(
    owner: str, epoch: int, held: int | None, share: str, gone: bool, decision: Decision
) -> None:
    assert decide(owner, epoch, me="me", held=held, share=share, gone=gone) == decision


def test_nothing_starts_before_there_is_a_lease_and_the_claims_were_read_after_it() -> None:
    lease = Lease()
    assert not lease.may_start(0.0)
    lease = lease.renewed(0.0, 0.1, TTL)
    assert not lease.may_start(0.2)
    assert lease.claims_read(0.2).may_start(0.3)
    assert not lease.claims_read(0.05).may_start(0.3)


def test_a_lease_is_counted_from_sending_its_renewal() -> None:
    lease = Lease().renewed(0.0, 0.5, TTL).claims_read(0.6)
    assert lease.may_start(2.9)
    assert not lease.may_start(3.0)
    assert lease.renewed(2.0, 2.5, TTL).may_start(4.9)


@pytest.mark.parametrize("lost", ["the lease", "the connection"])
def test_after_a_lapse_the_claims_are_read_again(lost: str) -> None:
    lease = Lease().renewed(0.0, 0.1, TTL).claims_read(0.2)
    if lost == "the lease":
        lease = lease.renewed(2.9, 3.1, TTL)
    else:
        lease = lease.disconnected()
        assert not lease.may_start(1.0)
        lease = lease.renewed(1.0, 1.1, TTL)
    assert not lease.may_start(3.2)
    assert lease.claims_read(3.2).may_start(3.3)


def test_who_is_said_to_be_gone_reads_the_claims_before_it_goes_on() -> None:
    lease = Lease().renewed(0.0, 0.1, TTL).claims_read(0.2)
    doubted = lease.doubted(0.3)
    assert not doubted.may_start(0.4)
    assert not doubted.claims_read(0.25).may_start(0.4), "they were asked for before"
    assert doubted.claims_read(0.35).may_start(0.4)
