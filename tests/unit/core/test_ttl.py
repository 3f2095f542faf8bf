"""How long a message lives, in the words that the server takes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.core import ttl


@pytest.mark.parametrize("text", ["1s", "1h30m", "1.5h", "1000ms", "90", "never", "NEVER", "2562047h"])
def test_a_ttl_is_a_duration_a_number_of_seconds_or_never(text: str) -> None:
    assert ttl.is_taken(text)


@pytest.mark.parametrize(
    "text", ["", "soon", "0", "500ms", "-1", "-1s", "1d", " 1s", "1s ", "٣", "9" * 11, "1h" * 30, "99999999h"]
)
def test_nothing_else_is_a_ttl(text: str) -> None:
    assert not ttl.is_taken(text)


@given(st.from_regex(r"\A[0-9.]{1,30}[a-zµ]{0,2}[0-9]{0,30}[hms]?\Z"))
@example("1" * 21 + "s")
@example("1." + "2" * 22 + "s")
def test_any_text_is_judged(text: str) -> None:
    assert ttl.is_taken(text) in {True, False}
