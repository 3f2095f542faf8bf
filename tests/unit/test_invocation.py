"""Invocations as `runner dev` tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import Reject, RetryPolicy
from runner.cli.invocation import described, where
from runner.core.settlement import Crashed, Failed, TimedOut, settle

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
    assert where(failed(ValueError("no")), HERE).startswith("test_invocation.py:18 in failed")
    assert where(failed(Reject("no")), HERE) == ""
    assert where(failed(ValueError("no")), HERE / "elsewhere") == ""
    assert where(TimedOut(2.0), HERE) == ""
