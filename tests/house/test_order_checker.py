"""The order checker finds what it is for, and nothing else."""

from __future__ import annotations

import pytest

from tests.support.lapse import Lapse
from tests.support.order import Verdict, check
from tests.support.ownerships import Claim, Overheard, check_ownerships

STORED = {"a": [1, 2, 3]}
STAMPS = {1: 10, 2: 20, 3: 30}


def journal(told: str) -> list[str]:
    """`S1x` is the start of message 1 by process x; `K-x`, `T-x`, `R` and `P` stand for themselves.

    A stamp may follow: `S1x@99` is about another message of that sequence.
    """
    lines = []
    for word in told.split():
        kind, rest = word[0], word[1:]
        if kind not in "SDF":
            lines.append(f"{kind} {rest.strip('-') or 'x'}")
            continue
        place, _, stamp = rest.partition("@")
        sequence, pid = int(place[0]), place[1]
        lines.append(f"{kind} a {sequence} {pid} 1 3 {len(lines)}.0 {stamp or STAMPS[sequence]}")
    return lines


def verdict(told: str) -> Verdict:
    return check(journal(told), STORED, STAMPS)


@pytest.mark.parametrize(
    "told",
    [
        "S1x D1x S2x D2x S3x D3x",
        "S1x K-x S1y D1y S2y D2y S3y D3y",
        "S1x D1x K-x S1y D1y S2y D2y S3y D3y",
        "S1x D1x S2x S1y D1y S2y D2y T-x S1x S3y D2x D3y",
    ],
)
def test_what_runs_again_after_a_death_or_late_after_a_freeze_is_in_order(told: str) -> None:
    assert verdict(told).problems == []


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("S2x D2x S1x D1x S3x D3x", "started before 1 was done"),
        ("S1x D1x S2x D2x S1x D1x S3x D3x", "started after 2 was done"),
        ("S1x D1x S2x D2x", "a 3: lost"),
        ("S1x D1x S3x D3x S2x D2x", "started before 2 was done"),
    ],
)
def test_what_is_out_of_order_or_lost_is_found(told: str, problem: str) -> None:
    assert any(problem in each for each in verdict(told).problems)


@pytest.mark.parametrize(
    "told",
    [
        "S1x D1x S2x D2x R S1x D1x S2x D2x S3x D3x",  # all acks of the copy's time were lost
        "S1x D1x S2x D2x R S2x D2x S3x D3x",
        "S1x D1x S2x D2x R S3x D3x",
        "S1x D1x S2x@99 D2x@99 R S2x D2x S3x D3x",  # another message had the sequence
        "S1x D1x S2x R D2x S3x D3x",  # one that ran at that moment ends after it
        "S1x D1x S2x R D2x S1y D1y S2y D2y S3y D3y",
        "S1x D1x R T-x S2x D2x S1x D1x S2x D2x S3x D3x",  # frozen in the act before it
        "S1x D1x R T-x S2x D2x S3x D3x",
    ],
)
def test_a_server_that_comes_back_with_less_lets_keys_run_again_from_any_message(told: str) -> None:
    assert verdict(told).problems == []


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("S1x D1x S2x D2x R S2x D2x S1x D1x S3x D3x", "started after 2 was done"),
        ("S1x D1x S2x D2x R S1x D1x S3x D3x", "started without 2"),
        ("S1x D1x S2x@99 D2x@99 R S3x D3x", "started before 2 was done"),
        ("S1x D1x S2x@99 D2x@99 S3x@99 D3x@99 R", "a 2: lost"),
    ],
)
def test_order_holds_after_a_server_came_back_with_less_and_nothing_is_skipped(
    told: str, problem: str
) -> None:
    assert any(problem in each for each in verdict(told).problems)


def test_overlapping_runs_are_counted_unless_the_first_process_was_killed() -> None:
    assert verdict("S1x S1y D1y D1x S2y D2y S3y D3y").overlaps == 1
    assert verdict("S1x K-x S1y D1y S2y D2y S3y D3y").overlaps == 0


@pytest.mark.parametrize(
    ("told", "late"),
    [
        ("S1x D1x S2y D2y S3y D3y", 0),
        ("S1x D1x S2y D2y S3x D3x", 1),
        ("S1x D1x S2y D2y T-x S3x D3x", 0),  # it was frozen in the act
        ("S1x D1x S2y D2y P S3x D3x", 0),
        ("S1x D1x S2z D2z S3x D3x", 0),  # of which nothing was heard
    ],
)
def test_a_start_behind_that_of_the_next_owner_is_found(told: str, late: int) -> None:
    overheard = Overheard()
    overheard.claims["1.0"] = [Claim(-2.0, 1, "x"), Claim(-1.0, 2, "y")]
    ownerships = check_ownerships(journal(told), overheard, dict.fromkeys(STAMPS, "1.0"))
    assert (len(ownerships.late), ownerships.unknown) == (late, int("z" in told))


def test_one_that_takes_a_shard_back_is_not_late() -> None:
    overheard = Overheard()
    overheard.claims["1.0"] = [Claim(-2.0, 1, "x"), Claim(-1.0, 2, "y"), Claim(3.5, 3, "x")]
    ownerships = check_ownerships(journal("S1x D1x S2y D2y S3x D3x"), overheard, dict.fromkeys(STAMPS, "1.0"))
    assert ownerships.late == []


@pytest.mark.parametrize(
    ("sent", "confirmed", "forgot"),
    [(1.0, 2.0, False), (4.0, 4.5, True), (2.5, 3.5, True), (4.9, 5.5, True), (5.5, 6.0, False)],
)
def test_only_what_was_confirmed_between_the_copy_and_the_end_may_be_missing(
    sent: float, confirmed: float, forgot: bool
) -> None:
    assert Lapse(copied=3.0, ended=5.0).forgot(sent, confirmed) is forgot
