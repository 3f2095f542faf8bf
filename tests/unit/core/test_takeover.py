"""Who may take a shard, case by case; tests/model/test_owners.py freezes, cuts and loses everything in between."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runner.core.takeover import (
    VACANT_SECONDS,
    Bury,
    Confirm,
    Decision,
    HandOver,
    Keep,
    Owner,
    Release,
    SeenClaim,
    Take,
    Vacate,
    Wait,
    decide,
)

FREE, MINE, THEIRS = SeenClaim("", 7), SeenClaim("me", 7), SeenClaim("other", 7)
NONE, UNREADABLE = SeenClaim(readable=False), SeenClaim("", 7, readable=False)


@pytest.mark.parametrize(
    ("standing", "held", "share", "buried", "living", "vacant", "decision"),
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
        (SeenClaim("me", 8), 7, "me", None, True, None, Confirm()),
        (SeenClaim("other", 8), 7, "other", None, True, None, Confirm()),
        (SeenClaim("", 8), 7, "me", None, True, None, Confirm()),
        (SeenClaim("", 7, sealed=True), None, "me", None, False, None, Wait()),
        (NONE, 7, "me", None, True, None, Confirm()),
        (NONE, None, "me", None, False, None, Vacate()),
        (NONE, None, "other", None, False, None, Wait()),
        (UNREADABLE, None, "me", None, False, 0.0, Wait()),
        (UNREADABLE, None, "me", None, False, VACANT_SECONDS, Vacate()),
        (FREE, None, "me", None, False, 0.0, Wait()),
        (FREE, None, "me", None, False, VACANT_SECONDS - 0.1, Wait()),
        (FREE, None, "me", None, False, VACANT_SECONDS, Take()),
        (FREE, None, "other", None, False, 9.0, Wait()),
    ],
)
def test_a_claim_is_taken_where_it_is_free_or_its_owner_was_buried_after_it_was_written(
    standing: SeenClaim,
    held: int | None,
    share: str,
    buried: int | None,
    living: bool,
    vacant: float | None,
    decision: Decision,
) -> None:
    found = decide(
        replace(standing, vacant=vacant), Owner(living=living, buried=buried), me="me", held=held, share=share
    )
    assert found == decision


def test_a_claim_that_another_has_tried_to_write_is_confirmed() -> None:
    assert decide(MINE, Owner(living=True), me="me", held=7, share="me", disputed=True) == Confirm()
