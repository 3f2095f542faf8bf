"""What is wrong with an option comes with how to write it."""

from __future__ import annotations

import pytest

from runner import options
from runner.signature import Unbindable


def test_a_number_in_the_place_of_a_policy_is_answered_with_a_policy() -> None:
    with pytest.raises(Unbindable) as told:
        options.policy(3)
    assert told.value.hint == "for example retry=RetryPolicy(attempts=3)"


def test_seconds_as_a_text_are_answered_with_a_number() -> None:
    with pytest.raises(Unbindable) as told:
        options.seconds("timeout", "3s")
    assert told.value.hint == "write seconds as a number: timeout=3"


def test_linger_without_a_batch_is_answered_with_a_batch() -> None:
    with pytest.raises(Unbindable) as told:
        options.linger(1.0, None)
    assert told.value.hint == "give batch= too, for example batch=100, or leave linger= away"
