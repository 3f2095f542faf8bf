"""What stands still is told once, with its reason, and told again when it goes on."""

from __future__ import annotations

import logging

import pytest

from runner.core.ordering import Ordering
from runner.ordered.standstill import Standstill


def test_it_is_told_once_after_five_seconds_and_when_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jetrunner.shards")
    standstill = Standstill()
    assert standstill.look({"shard post.1.0": "it is free"}, 100.0) == []
    assert standstill.look({"shard post.1.0": "it is free"}, 104.9) == []
    assert standstill.look({"shard post.1.0": "it is free"}, 105.0) == ["shard post.1.0"]
    assert standstill.look({"shard post.1.0": "it is free"}, 106.0) == ["shard post.1.0"]
    assert standstill.told() == ["shard post.1.0: it is free"]
    assert standstill.look({}, 107.0) == []
    assert [record.getMessage() for record in caplog.records] == [
        "shard post.1.0 has handled nothing for 5 s: it is free",
        "shard post.1.0 goes on",
    ]


def test_what_has_moved_meanwhile_begins_anew() -> None:
    standstill = Standstill()
    standstill.look({"a": "why"}, 100.0)
    standstill.look({}, 103.0)
    assert standstill.look({"a": "why"}, 106.0) == []


def test_the_heads_of_lanes_are_those_whose_turn_it_is() -> None:
    ordering = Ordering()
    ordering.takeover(0, 0, 0)
    for sequence, key in ((1, "a"), (2, "a"), (3, "b"), (4, "a")):
        ordering.arrive(sequence, key)
    assert ordering.heads() == [1, 3]
    ordering.settle(1)
    assert ordering.heads() == [1, 3]
    ordering.commit(ordering.take(1))
    assert ordering.heads() == [2, 3]
    ordering.hold()
    assert ordering.heads() == []
