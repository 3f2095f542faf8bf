from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from runner.telemetry import waterfall
from runner.telemetry.span import Span, SpanEvent

MS = 1_000_000


def span(
    number: int, name: str, start: float, end: float, parent: int = 0, *, service: str = "charge", **more: Any
) -> Span:
    return Span(
        trace_id=more.pop("trace", "a") * 32,
        span_id=f"{number:016x}",
        parent_id=f"{parent:016x}" if parent else "",
        name=name,
        kind="internal",
        start_ns=int(start * MS),
        end_ns=int(end * MS),
        service=service,
        **more,
    )


def attempt(number: int, start: float, end: float, of: int, *, parent: int = 0, **more: Any) -> Span:
    return span(
        number,
        "charge",
        start,
        end,
        parent,
        attributes={"jetrunner.attempt": of, **more.pop("facts", {})},
        **more,
    )


RETRIED = [
    attempt(
        2,
        10,
        110,
        1,
        parent=1,
        facts={"jetrunner.outcome": "retry"},
        events=(SpanEvent("message.nak", 0, {"delay": 0.2, "next_attempt": 2}),),
        status="error",
        status_message="ValueError: bank\nis closed",
    ),
    attempt(3, 310, 400, 2, parent=1, facts={"jetrunner.outcome": "ack"}),
    span(4, "send payments.charged", 380, 390, 3),
    span(1, "send orders.created", 0, 5, service="shop"),
]


def test_a_retried_message_is_drawn_below_its_publisher() -> None:
    assert waterfall.lines(RETRIED, 90) == [
        f"trace {'a' * 32}, 4 spans, 2 services, 400 ms",
        "shop    send orders.created        ▎                        5.0 ms",
        "charge  └ ✗ charge #1              █████▌                   100 ms  retry, again in 0.2 s…",
        "charge  └ charge #2                                 █████    90 ms  ack",
        "charge    └ send payments.charged                      ▌     10 ms",
    ]


def test_several_roots_share_one_scale_and_several_traces_stand_apart() -> None:
    given_up = SpanEvent("message.term", 0, {"reason": "rejected"})
    spans = [
        span(9, "other", 5000, 5001, trace="b", service="x"),
        attempt(
            2, 1000, 1100, 2, facts={"jetrunner.outcome": "dead_letter"}, events=(given_up,), status="error"
        ),
        span(3, "send deadletters.shop.charge", 1050, 1090, 2),
        attempt(1, 0, 100, 1, status="error"),
    ]
    assert waterfall.lines(spans, 80) == [
        f"trace {'a' * 32}, 3 spans, 1 service, 1.10 s",
        "charge  ✗ charge #1                     █▎               100 ms  error",
        "charge  ✗ charge #2                                 █▎   100 ms  dead letter, r…",
        "charge  └ send deadletters.shop.charge               ▌    40 ms",
        "",
        f"trace {'b' * 32}, 1 span, 1 service, 1.0 ms",
        "x  other  ███████████████████████████████████████████████████████████   1.0 ms",
    ]


def test_waits_are_dots_and_failures_are_told_whole_with_their_place() -> None:
    trace = 'Traceback\n  File "/shop/functions/bank.py", line 7, in ask\n    raise\nValueError: bank'
    first, second, output, publish = RETRIED
    first = structs.replace(
        first,
        attributes={**first.attributes, "messaging.message.id": "ORDERS:1"},
        events=(*first.events, SpanEvent("exception", 0, {"exception.stacktrace": trace})),
    )
    second = structs.replace(second, attributes={**second.attributes, "messaging.message.id": "ORDERS:1"})
    publish = structs.replace(publish, kind="producer")
    assert waterfall.lines([first, second, output, publish], 100, waits=True) == [
        f"trace {'a' * 32}, 4 spans, 2 services, 400 ms",
        "shop    send orders.created        ▍                             5.0 ms",
        "charge  └ ✗ charge #1              ██████▊                       100 ms  ORDERS:1, retry, again in …",
        "charge  └ charge #2                       ·············██████▏    90 ms  ORDERS:1, after 200 ms, ack",
        "charge    └ send payments.charged                           ▋     10 ms",
        "✗ charge #1: ValueError: bank is closed, at /shop/functions/bank.py:7 in ask",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_line_is_wider_than_asked_and_bars_stay_in_their_column(width: int) -> None:
    drawn = waterfall.lines(RETRIED, width)
    assert len(drawn) == 5
    assert max(map(len, drawn[1:])) <= max(width, 56)


def test_no_spans_are_no_lines() -> None:
    assert waterfall.lines([]) == []


def test_a_span_whose_parent_is_missing_is_a_root_and_one_exported_twice_is_drawn_once() -> None:
    lost = span(2, "orphan", 0, 1, 77)
    assert [line.split()[1] for line in waterfall.lines([lost, lost])[1:]] == ["orphan"]


def test_a_loop_of_parents_ends() -> None:
    loop = [span(1, "hen", 0, 1, 2), span(2, "egg", 1, 2, 1), span(3, "own parent", 1, 2, 3)]
    assert len(waterfall.lines(loop)) == 4


def test_a_span_of_no_length_or_with_a_clock_that_went_back_has_a_bar() -> None:
    drawn = waterfall.lines([span(1, "a", 0, 0), span(2, "b", 5, 3, 1), span(3, "c", 10**15, 10**15)])
    assert all("▏" in line for line in drawn[1:])


def test_no_escape_sequence_reaches_the_terminal() -> None:
    drawn = waterfall.lines([span(1, "\x1b[31mred\x07", 0, 1, service="a\nb")])
    assert "·[31mred·" in drawn[1]
    assert all(line.isprintable() for line in drawn)
