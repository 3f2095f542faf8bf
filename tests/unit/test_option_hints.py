"""What is wrong with an option comes with how to write it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runner import options, tokens
from runner.core import cron
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


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (0, "parts that have not come are waited for at least 1 s, and an hour unless expires= is given"),
        (True, "parts that have not come are waited for at least 1 s, and an hour unless expires= is given"),
        ("1h", "write seconds as a number: expires=3600"),
        ("soon", "write seconds as a number: expires=3"),
    ],
)
def test_an_expiry_that_is_none_is_answered_with_one(value: object, hint: str) -> None:
    with pytest.raises(Unbindable, match="expires= is a number of seconds from 1 to a year") as told:
        options.expires(value)
    assert told.value.hint == hint


def test_a_duration_as_a_text_is_answered_with_its_seconds() -> None:
    with pytest.raises(Unbindable) as told:
        options.seconds("timeout", "2m")
    assert told.value.hint == "write seconds as a number: timeout=120"


def test_a_misspelt_choice_is_answered_with_the_nearest() -> None:
    with pytest.raises(Unbindable, match="batch_by= is 'key' or 'shard', not 'shards'") as told:
        options.batch_by("shards", 5, ("customer",))
    assert told.value.hint == "did you mean 'shard'?"


@pytest.mark.parametrize("annotation", [list[str], list, tuple[str, ...], Sequence[str]])
def test_a_list_of_tokens_is_answered_with_batches(annotation: object) -> None:
    with pytest.raises(TypeError, match="it is one text; lists are for handlers with batch="):
        tokens.converter(annotation)


@pytest.mark.parametrize(
    ("text", "zone", "near"),
    [
        ("@dayly", "UTC", "@daily"),
        ("daily", "UTC", "@daily"),
        ("@Hourli", "UTC", "@hourly"),
        ("@daily", "Europe/Berln", "Europe/Berlin"),
    ],
)
def test_a_misspelt_schedule_is_answered_with_the_nearest(text: str, zone: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        cron.parse(text, zone)


def test_a_schedule_that_resembles_none_is_answered_with_no_guess() -> None:
    with pytest.raises(ValueError, match="has 3 fields") as told:
        cron.parse("* * *")
    assert "did you mean" not in str(told.value)
