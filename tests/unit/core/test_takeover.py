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
    Standing,
    Take,
    Vacate,
    Wait,
    decide,
)

FREE, MINE, THEIRS = Standing("", 7), Standing("me", 7), Standing("other", 7)
NONE, UNREADABLE = Standing(readable=False), Standing("", 7, readable=False)


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
        (Standing("me", 8), 7, "me", None, True, None, Confirm()),
        (Standing("other", 8), 7, "other", None, True, None, Confirm()),
        (Standing("", 8), 7, "me", None, True, None, Confirm()),
        (Standing("", 7, sealed=True), None, "me", None, False, None, Wait()),
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
    standing: Standing,
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
