"""Who may take a shard, case by case; tests/model/test_owners.py freezes, cuts and loses everything in between."""

from __future__ import annotations

import pytest

from runner.core.takeover import (
    Bury,
    Confirm,
    Decision,
    HandOver,
    Keep,
    Release,
    Standing,
    Take,
    Wait,
    decide,
    next_epoch,
)

FREE, MINE, THEIRS, NONE = Standing("", 7), Standing("me", 7), Standing("other", 7), Standing()


@pytest.mark.parametrize(
    ("standing", "held", "share", "buried", "living", "missing", "decision"),
    [
        (FREE, None, "me", None, False, None, Take()),
        (FREE, None, "other", None, False, None, Wait()),
        (THEIRS, None, "me", None, True, None, Wait()),
        (THEIRS, None, "me", None, False, None, Bury()),
        (THEIRS, None, "me", 8, False, None, Take()),
        (THEIRS, None, "me", 6, False, None, Bury()),
        (THEIRS, None, "me", 6, True, None, Wait()),
        (THEIRS, None, "third", 8, False, None, Wait()),
        (MINE, None, "me", None, True, None, Take()),
        (MINE, None, "other", None, True, None, Release()),
        (MINE, None, "", None, True, None, Release()),
        (MINE, 7, "", None, True, None, HandOver()),
        (MINE, 7, "me", None, True, None, Keep()),
        (MINE, 7, "other", None, True, None, HandOver()),
        (Standing("me", 8), 7, "me", None, True, None, Confirm()),
        (Standing("other", 8), 7, "other", None, True, None, Confirm()),
        (Standing("", 8), 7, "me", None, True, None, Confirm()),
        (Standing("", 7, sealed=True), None, "me", None, False, None, Wait()),
        (NONE, 7, "me", None, True, 0.0, Confirm()),
        (NONE, None, "me", None, False, 0.0, Wait()),
        (NONE, None, "me", None, False, 3.0, Wait()),
        (NONE, None, "me", None, False, 3.2, Take()),
        (NONE, None, "other", None, False, 3.2, Wait()),
    ],
)
def test_a_claim_is_taken_where_it_is_free_or_its_owner_was_buried_after_it_was_written(
    standing: Standing,
    held: int | None,
    share: str,
    buried: int | None,
    living: bool,
    missing: float | None,
    decision: Decision,
) -> None:
    found = decide(standing, me="me", held=held, share=share, buried=buried, living=living, missing=missing)
    assert found == decision


def test_a_claim_that_another_has_tried_to_write_is_confirmed() -> None:
    assert decide(MINE, me="me", held=7, share="me", buried=None, living=True, disputed=True) == Confirm()


def test_epochs_rise_and_do_not_go_back_with_a_bucket_that_lost_its_claims() -> None:
    assert next_epoch(0, 1_800_000_000.5) == 1
    assert next_epoch(7, 1_800_000_000.5) == 8
    assert next_epoch(None, 1_800_000_000.5) == 1_800_000_000
