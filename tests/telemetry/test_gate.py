from __future__ import annotations

import pytest

from runner.core import header
from runner.telemetry.gate import Gate
from tests.telemetry.delivery import SAMPLED, SENDER, TRACE, UNSAMPLED

ALIKE = ("X-Traceparent", f"00-{TRACE}-{SENDER}-01")
QUOTED = ("Note", f"the traceparent: 00-{TRACE}-{SENDER}-01")


def raw(*pairs: tuple[str, str]) -> bytes:
    return header.encode(pairs)


def flagged(flags: str) -> bytes:
    return raw(("A", "b"), ("traceparent", f"00-{TRACE}-{SENDER}-{flags}"), ("C", "d"))


@pytest.mark.parametrize(
    ("block", "admitted"),
    [
        (raw(SAMPLED), True),
        (raw(UNSAMPLED), False),
        (raw(("Traceparent", SAMPLED[1])), True),
        (raw(("Traceparent", UNSAMPLED[1])), False),
        (flagged("03"), True),
        (flagged("02"), False),
        (flagged("ff"), True),
        (raw(ALIKE, UNSAMPLED), False),
        (raw(QUOTED, UNSAMPLED), False),
        (raw(SAMPLED).replace(b": 00", b":00"), True),
        (raw(UNSAMPLED).replace(b": 00", b":00"), False),
        (f"NATS/1.0\r\ntraceparent: cc-{TRACE}-{SENDER}-01-more\r\n\r\n".encode(), True),
    ],
)
def test_the_sampled_flag_of_the_parent_decides_and_costs_no_token(block: bytes, admitted: bool) -> None:
    gate = Gate()
    for tokens in (100, 0):
        gate.tokens = tokens
        assert gate.admit(block) is admitted
        assert gate.tokens == tokens


@pytest.mark.parametrize(
    "block",
    [
        None,
        b"",
        b"NATS/1.0\r\n\r\n",
        raw(("Nats-Msg-Id", "1")),
        raw(ALIKE),
        raw(QUOTED),
        raw(("traceparent", "00-short-01")),
        raw(("traceparent", "")),
        flagged("xy"),
        b"raceparent:",
        b"\r\ntraceparent:",
        b"traceparent: 00-" + b"a" * 60,
    ],
)
def test_a_message_without_a_readable_parent_takes_a_token(block: bytes | None) -> None:
    gate = Gate()
    gate.tokens = 1
    assert gate.admit(block) is True
    assert gate.tokens == 0
    assert gate.admit(block) is False


def test_a_quiet_second_earns_a_hundred_tokens_and_never_more() -> None:
    gate = Gate()
    gate.refill(50.0)
    assert sum(gate.admit(None) for _ in range(1000)) == 100
    for step in range(1, 1001):
        gate.refill(50.0 + step * 0.0011)
    assert sum(gate.admit(None) for _ in range(1000)) == 100  # 1.1 s, the burst is 100
    gate.refill(51.25)
    assert sum(gate.admit(None) for _ in range(1000)) == 15  # whole steps of 50 ms only
    gate.refill(1e9)
    assert gate.tokens == 100


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    gate = Gate()
    gate.refill(50.0)
    gate.tokens = 0
    gate.refill(50.0)
    gate.refill(10.0)
    assert gate.tokens == 0


def test_failures_of_unsampled_messages_have_a_bucket_of_their_own() -> None:
    gate = Gate()
    gate.refill(1.0)
    assert sum(gate.admit_late() for _ in range(100)) == 20
    gate.refill(1.5)
    assert sum(gate.admit_late() for _ in range(100)) == 10
    assert gate.tokens == 100


@pytest.mark.parametrize(
    ("sampler", "parent", "no_parent", "no_root"),
    [
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("traceidratio", True, True, True),
        ("parentbased_always_on", True, False, True),
        ("parentbased_always_off", True, False, False),
        ("parentbased_traceidratio", True, False, True),
    ],
)
def test_an_explicit_sampler_is_obeyed_as_it_is(
    sampler: str, parent: bool, no_parent: bool, no_root: bool
) -> None:
    gate = Gate(sampler)
    for _ in range(200):
        assert gate.admit(raw(SAMPLED)) is parent
        assert gate.admit(raw(UNSAMPLED)) is no_parent
        assert gate.admit(None) is no_root
    assert gate.admit_late() is False


def test_a_gate_that_is_turned_off_admits_nothing() -> None:
    gate = Gate(enabled=False)
    assert gate.admit(raw(SAMPLED)) is False
    assert gate.admit(None) is False
    assert gate.admit_late() is False


def test_without_the_w3c_propagator_only_the_bucket_counts() -> None:
    gate = Gate(traceparent=False)
    gate.tokens = 1
    assert gate.admit(raw(UNSAMPLED)) is True
    assert gate.admit(raw(SAMPLED)) is False
