from __future__ import annotations

import pytest

from runner.core import answered
from runner.core.answered import Answered, headers, one_line
from runner.core.service import LONGEST_ERROR
from runner.core.settlement import Crashed, Failed, Outcome, Succeeded, TimedOut, Undecodable
from runner.core.signals import Reject, Retry


@pytest.mark.parametrize(
    ("outcome", "code", "text", "faulty"),
    [
        (Succeeded(), 200, "", False),
        (Undecodable(ValueError("no JSON")), 400, "no JSON", False),
        (Failed(Reject("no")), 422, "no", False),
        (Failed(Reject()), 422, "rejected", False),
        (Failed(Retry("later")), 503, "later", True),
        (Failed(Retry()), 503, "try again later", True),
        (Failed(KeyError("x")), 500, "KeyError: 'x'", True),
        (Failed(ExceptionGroup("g", [ExceptionGroup("g", [Reject("deep")])])), 422, "deep", False),
        (Failed(TimeoutError("its own")), 500, "TimeoutError: its own", True),
        (TimedOut(0.5), 408, "no result within 0.5 s", True),
        (Crashed(2), 500, "crashed", True),
    ],
)
def test_the_end_of_a_handler_has_a_code(outcome: Outcome, code: int, text: str, faulty: bool) -> None:
    found = answered.answered(outcome)
    assert (found, found.faulty) == (Answered(code, text), faulty)


@pytest.mark.parametrize(
    "text", ["", "a\r\nb: c\r\n\r\n", "\ud800", "\x00\x1b[31m", "é" * 5_000, " ", "\u2028"]
)
def test_words_stand_in_one_header_whatever_they_are(text: str) -> None:
    line = one_line(text)
    assert line
    assert len(line.encode()) <= LONGEST_ERROR
    block = headers(500, text)
    assert block.count(b"\r\n") == 4
    assert block.endswith(b"\r\nNats-Service-Error-Code: 500\r\n\r\n")


def test_what_has_not_begun_says_so() -> None:
    assert headers(429, "full", "overloaded") == (
        b"NATS/1.0\r\nNats-Service-Error: full\r\nNats-Service-Error-Code: 429\r\nJetrunner-Not-Started: overloaded\r\n\r\n"
    )
    assert set(answered.REFUSED) == {"overloaded", "draining", "expired", "unknown"}
