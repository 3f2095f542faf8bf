"""From when on the claims of an instance are known to stand as it wrote them."""

from __future__ import annotations

from typing import cast

from runner.cluster.claims import Claims, StoredClaim
from runner.cluster.holdings import Holdings
from runner.cluster.membership import Membership
from runner.core.claim import Claim


def standing(revision: int) -> StoredClaim:
    return StoredClaim(Claim("me", 1, 0.0), revision, readable=True)


def holdings() -> Holdings:
    """Looking at what was read needs neither the bucket nor a lease."""
    return Holdings(cast("Claims", None), cast("Membership", None), lambda shard: None)


def test_claims_that_were_read_as_they_were_written_stand_from_that_request_on() -> None:
    held = holdings()
    held.hold("post.1.0", standing(7), sent=1.0)
    held.hold("post.1.1", standing(8), sent=2.0)
    assert held.look(5.0, {"post.1.0": 7, "post.1.1": 8}, ["post.1.0", "post.1.1"]) == 5.0


def test_one_that_was_written_while_they_were_read_counts_from_its_own_request_on() -> None:
    held = holdings()
    held.hold("post.1.0", standing(7), sent=1.0)
    held.hold("post.1.1", standing(9), sent=4.5)  # the reading still found what stood there before
    assert held.look(5.0, {"post.1.0": 7, "post.1.1": 8}, ["post.1.0", "post.1.1"]) == 4.5


def test_one_that_the_bucket_has_lost_counts_from_when_it_was_last_found() -> None:
    held = holdings()
    held.hold("post.1.0", standing(7), sent=1.0)
    held.look(3.0, {"post.1.0": 7}, ["post.1.0"])
    assert held.look(5.0, {}, ["post.1.0"]) == 3.0
    assert held.look(7.0, {}, ["post.1.0"]) == 3.0


def test_one_that_was_never_found_lets_nothing_start() -> None:
    assert holdings().look(5.0, {"post.1.0": 7}, ["post.1.0"]) == 0.0


def test_where_nothing_may_start_all_claims_stand() -> None:
    assert holdings().look(5.0, {}, []) == 5.0
