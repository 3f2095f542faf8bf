"""Suspects: how a message starts that may have killed its process."""

from __future__ import annotations

import pytest

from runner.core.settlement import Crashed
from runner.core.suspect import ALONE, FREE, RECORDED, SOLO, Run, RunFree, Step, may_start, next_step


@pytest.mark.parametrize(
    ("delivered", "recorded", "expected"),
    [
        (0, 0, RunFree()),
        (1, 0, RunFree()),
        (1, 3, RunFree()),
        (2, 0, Run(RECORDED)),
        (9, 0, Run(RECORDED)),
        (3, 1, Run(SOLO)),
        (4, 2, Run(ALONE)),
        (5, 3, Crashed(3)),
    ],
)
def test_every_start_after_a_death_is_lonelier(delivered: int, recorded: int, expected: Step) -> None:
    assert next_step(delivered, recorded) == expected


@pytest.mark.parametrize(
    ("stage", "running", "suspects", "highest", "expected"),
    [
        (FREE, 0, 0, 0, True),
        (FREE, 63, 0, 0, True),
        (FREE, 9, 1, SOLO, True),
        (FREE, 1, 1, ALONE, False),
        (RECORDED, 9, 5, RECORDED, True),
        (RECORDED, 9, 1, SOLO, False),
        (RECORDED, 1, 1, ALONE, False),
        (SOLO, 9, 0, 0, True),
        (SOLO, 9, 1, RECORDED, False),
        (SOLO, 9, 1, SOLO, False),
        (ALONE, 0, 0, 0, True),
        (ALONE, 1, 0, 0, False),
        (ALONE, 1, 1, ALONE, False),
    ],
)
def test_a_suspect_keeps_the_company_of_its_stage(
    stage: int, running: int, suspects: int, highest: int, *, expected: bool
) -> None:
    assert may_start(stage, running=running, suspects=suspects, highest=highest) is expected
