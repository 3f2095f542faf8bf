"""Fences: which streams can hold them, and what an owner makes of one that stands there."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.fence import StandingFence, expect, holds, judge, subject, subjects

PATTERN = "_jetrunner.OUT.>"


def test_a_fence_stands_in_the_stream_of_the_outputs_under_function_and_shard() -> None:
    fence = subject("OUT", "shop", "charge", 2, 7)
    assert fence == "_jetrunner.OUT.shop.charge.2.7"
    assert expect(fence, 41).decode().splitlines() == [
        "Nats-Expected-Last-Subject-Sequence: 41",
        f"Nats-Expected-Last-Subject-Sequence-Subject: {fence}",
    ]


@pytest.mark.parametrize(
    ("config", "held", "fenced"),
    [
        ({"subjects": ["out.>"]}, False, True),
        ({"subjects": ["out.>", PATTERN]}, False, True),
        ({"subjects": ["out.>"], "max_msgs": 1000}, False, True),
        (
            {"subjects": ["out.>"], "subject_transform": {"src": "out.*", "dest": "shard.1.0.out.*"}},
            False,
            True,
        ),
        ({"subjects": ["*.*.*"], "subject_transform": {"src": "*.*.*", "dest": "x"}}, True, False),
        ({"subjects": ["a.>", "b.>"], "subject_transform": {"src": "*.>", "dest": "x"}}, True, False),
        ({"subjects": ["a.>"], "subject_transform": {"dest": "x.>"}}, False, False),
        ({}, False, False),
        ({"subjects": ["*.>"]}, False, False),
        ({"subjects": ["out.>"], "retention": "workqueue"}, False, False),
        ({"subjects": ["out.>"], "retention": "interest"}, False, False),
        ({"subjects": ["out.>"], "max_msgs": 999}, False, False),
        ({"subjects": ["out.>"], "max_msgs": 999}, True, True),
        ({"subjects": ["out.>"], "max_msgs": -1}, False, True),
        ({"subjects": ["out.>"], "discard_new_per_subject": True}, False, False),
        ({"subjects": ["out.>"], "allow_msg_counter": True}, False, False),
    ],
)
def test_a_stream_gets_the_subject_of_its_fences_where_it_can_keep_them(
    config: dict[str, Any], held: bool, fenced: bool
) -> None:
    own = [each for each in config.get("subjects", ()) if each != PATTERN]
    found = list(subjects("OUT", config, held=held))
    assert found == ([*own, PATTERN] if fenced else own)
    assert holds({**config, "name": "OUT", "subjects": found}) is fenced


@pytest.mark.parametrize(
    ("standing", "judgement"),
    [
        (StandingFence(9, "me", 4), "ours"),
        (StandingFence(9, "other", 3), "older"),
        (StandingFence(9, "me", 3), "older"),
        (StandingFence(9, "other", 4), "doubtful"),
        (StandingFence(9, "other", 5), "doubtful"),
        (StandingFence(9, "me", 5), "doubtful"),
        (StandingFence(), "doubtful"),
        (StandingFence(9), "older"),
    ],
)
def test_only_an_older_fence_is_written_over_without_a_look_at_the_claim(
    standing: StandingFence, judgement: str
) -> None:
    assert judge(standing, "me", 4) == judgement
