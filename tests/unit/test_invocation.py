"""Invocations as `runner dev` tells them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner import Reject, RetryPolicy
from runner.cli.invocation import described
from runner.core.settlement import Crashed, Failed, TimedOut, settle
from runner.core.subject import Template
from runner.runtime.blame import where

HERE = Path(__file__).parent


def failed(error: Exception) -> Failed:
    with pytest.raises(type(error)) as raised:
        raise error
    return Failed(raised.value)


def test_what_no_code_raised_is_told_in_one_sentence() -> None:
    crashed = Crashed(starts=3)
    sentence = "crashed: its process died in each of 3 recorded starts"
    assert described(settle(crashed, 1, RetryPolicy(), 0.0), crashed) == ("dead", sentence)
    late = TimedOut(2.0)
    dead = settle(late, 5, RetryPolicy(attempts=5), 0.0)
    assert described(dead, late) == ("dead", "timeout: no result within 2 s")


def test_an_exception_has_its_place_and_a_verdict_has_none() -> None:
    assert where(failed(ValueError("no")), HERE).startswith("test_invocation.py:21 in failed")
    assert where(failed(Reject("no")), HERE) == ""
    assert where(failed(ValueError("no")), HERE / "elsewhere") == f"{__file__}:21 in failed"
    assert where(TimedOut(2.0), HERE) == ""


def test_the_place_is_the_last_line_that_is_of_no_library() -> None:
    with pytest.raises(json.JSONDecodeError) as raised:
        json.loads("{")
    assert where(Failed(raised.value), HERE).endswith(
        "in test_the_place_is_the_last_line_that_is_of_no_library"
    )
    with pytest.raises(ValueError) as ours:
        raise_in_ours()
    assert where(Failed(ours.value), HERE).endswith("in raise_in_ours")


def raise_in_ours() -> None:
    Template.parse("a..b")
