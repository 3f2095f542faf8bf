"""The context of an attempt, and the one that tests of user code make."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from msgspec import Struct

from runner import Context, testing
from runner.codec import DecodeError, EncodeError
from runner.core.subject import Template
from runner.staged import Staged


class Quote(Struct):
    price: int


def made(**fields: Any) -> Context:
    return Context(**{"function": "charge", "subject": "orders.c1.created", **fields})


def test_a_context_tells_about_its_message() -> None:
    ctx = made(
        template=Template.parse("orders.{customer}.created"),
        headers=b"NATS/1.0\r\nTrace: 1\r\n\r\n",
        attempt=2,
        attempts=5,
        stream="ORDERS",
        sequence=17,
        timestamp_ns=1_700_000_000_123_456_789,
        state={"db": 1},
    )
    assert ctx.params == {"customer": "c1"}
    assert ctx.headers == {"Trace": "1"}
    assert (ctx.attempt, ctx.attempts, ctx.stream, ctx.sequence) == (2, 5, "ORDERS", 17)
    assert ctx.message_id == "ORDERS:17"
    assert ctx.timestamp == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert (ctx.key, ctx.shard, ctx.missing, ctx.state) == (None, None, (), {"db": 1})


def test_a_message_without_headers_has_an_empty_mapping() -> None:
    assert made().headers == {}
    assert made(headers=b"").headers == {}
    assert made().params == {}


@pytest.mark.parametrize(
    "ctx",
    [
        made(headers=b"NATS/1.0\r\nTag: a\r\ntag: b\r\nOther: c\r\nTag: a\r\n\r\n"),
        testing.context(headers={"Tag": ["a", "b", "a"], "Other": "c"}),
    ],
    ids=["wire", "test"],
)
def test_a_header_that_is_repeated_gives_all_its_values_in_order(ctx: Context) -> None:
    assert ctx.headers["Tag"] == "a"
    assert ctx.header_values("Tag") == ctx.header_values("TAG") == ("a", "b", "a")
    assert ctx.header_values("other") == ("c",)
    assert ctx.header_values("Ta") == ()
    assert ctx.header_values("Tag") == ("a", "b", "a")


def test_a_message_without_headers_has_no_values() -> None:
    assert made().header_values("Tag") == made(headers={}).header_values("Tag") == ()
    assert testing.context().header_values("Tag") == ()
    assert made(headers={"Tag": "a"}).header_values("tag") == ("a",)


def test_the_deadline_counts_down_and_stops_at_zero() -> None:
    now = 100.0
    ctx = made(clock=lambda: now, expires=130.0)
    assert ctx.deadline == 30.0
    now = 120.0
    assert ctx.deadline == 10.0
    now = 200.0
    assert ctx.deadline == 0.0


def test_the_repr_shows_no_header_and_no_state() -> None:
    shown = repr(made(headers={"Authorization": "s3cret"}, state="s3cret", stream="ORDERS", sequence=17))
    assert "ORDERS:17" in shown
    assert "s3cret" not in shown


def test_records_of_the_log_carry_the_message(caplog: pytest.LogCaptureFixture) -> None:
    ctx = made(stream="ORDERS", sequence=17, attempt=2)
    with caplog.at_level(logging.INFO):
        ctx.log.info("charged", extra={"cents": 5})
    (record,) = caplog.records
    assert record.name == "jetrunner.functions.charge"
    fields = vars(record)
    assert (fields["function"], fields["message_id"], fields["attempt"], fields["cents"]) == (
        "charge",
        "ORDERS:17",
        2,
        5,
    )


async def test_what_is_published_is_staged_and_encoded_at_once() -> None:
    ctx = made()
    order = {"cents": 5}
    await ctx.publish("payments.c1", order, headers={"Kind": "new"})
    order["cents"] = 6
    assert ctx.staged == [Staged("payments.c1", b'{"cents":5}', {"Kind": "new"}, None)]


def test_a_handler_in_a_thread_publishes_without_await() -> None:
    ctx = made()
    ctx.publish("payments.c1", b"raw")
    assert [staged.body for staged in ctx.staged] == [b"raw"]


async def test_a_packed_message_is_packed_as_its_header_says() -> None:
    ctx = made()
    await ctx.publish("payments.c1", {"cents": 5}, headers={"content-type": "application/msgpack"})
    assert ctx.staged[0].body == b"\x81\xa5cents\x05"


async def test_a_delay_becomes_a_time() -> None:
    ctx = made()
    before = datetime.now(UTC)
    await ctx.publish("payments.c1", 1, delay=60)
    at = ctx.staged[0].at
    assert at is not None
    assert before + timedelta(seconds=60) <= at <= datetime.now(UTC) + timedelta(seconds=60)


async def test_a_time_is_kept_as_given() -> None:
    ctx = made()
    at = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    await ctx.publish("payments.c1", 1, at=at)
    assert ctx.staged[0].at == at


@pytest.mark.parametrize(
    ("subject", "options"),
    [
        ("", {}),
        ("a b", {}),
        ("orders.{customer}.created", {}),
        ("orders.{order.customer}.created", {}),
        ("orders.{customer!r}.x-{number:03d}", {}),
        ("orders.{order['id'].lower()}", {}),
        ("orders.{}", {}),
        ("a.*", {}),
        ("a.>", {}),
        ("a..b", {}),
        ("a", {"headers": {"Na:me": "x"}}),
        ("a", {"headers": {"Name": "x\r\nEvil: 1"}}),
        ("a", {"delay": -1}),
        ("a", {"delay": float("nan")}),
        ("a", {"delay": float("inf")}),
        ("a", {"delay": 1e300}),
        ("a", {"delay": 250 * 366 * 86_400}),  # nanoseconds in 64 bits end in 2262
        ("a", {"at": datetime(2262, 4, 12, tzinfo=UTC)}),
        ("a", {"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-2)))}),
        ("a", {"at": datetime(2030, 1, 1)}),  # noqa: DTZ001  # what is tested
        ("a", {"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}),
    ],
)
def test_what_cannot_be_published_is_refused_at_once(subject: str, options: dict[str, Any]) -> None:
    ctx = made()
    with pytest.raises(ValueError):
        ctx.publish(subject, 1, **options)
    assert ctx.staged == []


def test_a_body_that_cannot_be_encoded_is_refused_at_once() -> None:
    with pytest.raises(EncodeError):
        made().publish("a", object())


def test_publishing_after_the_handler_has_returned_is_an_error() -> None:
    ctx = made()
    ctx.publish("a", 1)
    assert len(ctx.seal() or []) == 1
    with pytest.raises(RuntimeError, match="has returned"):
        ctx.publish("a", 2)
    assert len(ctx.staged) == 1


async def test_a_request_is_answered_by_the_tests_replies() -> None:
    ctx = testing.context(replies={"quotes": {"price": 5}, "raw": b"", "slow": TimeoutError("no answer")})
    assert await ctx.request("quotes", {"item": 1}, returns=Quote) == Quote(5)
    assert await ctx.request("quotes", {"item": 1}) == {"price": 5}
    assert await ctx.request("raw", b"") is None
    with pytest.raises(DecodeError):
        await ctx.request("quotes", b"", returns=int)
    with pytest.raises(TimeoutError):
        await ctx.request("slow", b"")
    with pytest.raises(LookupError, match="no reply for 'other'"):
        await ctx.request("other", b"")


@pytest.mark.parametrize("timeout", [0.0, -1.0, math.inf, math.nan])
async def test_a_request_with_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    ctx = testing.context(replies={"quotes": 5})
    with pytest.raises(ValueError, match=f"timeout={timeout} is not a number of seconds above 0"):
        await ctx.request("quotes", b"", timeout=timeout)


async def test_a_request_is_answered_by_a_function() -> None:
    ctx = testing.context(replies=lambda subject, body: {"price": len(body)})
    assert await ctx.request("quotes", b"123", returns=Quote) == Quote(3)


async def test_a_request_without_connection_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no connection"):
        await made().request("quotes", b"")


def test_a_test_context_has_what_it_was_given() -> None:
    ctx = testing.context(
        subject="orders.c1.created",
        params={"customer": "c1"},
        headers={"Kind": "new"},
        attempt=2,
        stream="ORDERS",
        sequence=17,
        timestamp=datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=UTC),
        deadline=5.0,
        state={"db": 1},
    )
    assert (ctx.subject, ctx.params, ctx.headers) == (
        "orders.c1.created",
        {"customer": "c1"},
        {"Kind": "new"},
    )
    assert (ctx.attempt, ctx.message_id, ctx.deadline, ctx.state) == (2, "ORDERS:17", 5.0, {"db": 1})
    assert ctx.timestamp == datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=UTC)


def test_a_test_context_needs_nothing_and_is_the_same_every_time() -> None:
    ctx = testing.context()
    assert (ctx.attempt, ctx.attempts, ctx.staged) == (1, 5, [])
    assert ctx.timestamp == testing.context().timestamp
    with pytest.raises(ValueError, match="timezone"):
        testing.context(timestamp=datetime(2024, 1, 1))  # noqa: DTZ001  # what is tested


def test_nothing_is_published_later_to_a_subject_of_the_servers() -> None:
    with pytest.raises(ValueError, match="nothing is published there later"):
        testing.context().publish("$JS.API.STREAM.PURGE.ORDERS", b"", delay=1.0)


def test_a_token_that_was_not_filled_in_is_told() -> None:
    with pytest.raises(
        ValueError, match=r"orders\.\{customer\}\.created' has a token that was not filled in"
    ):
        made().publish("orders.{customer}.created", {})


def test_braces_that_hold_no_name_are_a_token_as_any_other() -> None:
    ctx = made()
    ctx.publish("orders.{6f9619ff-8b86-d011-b42d-00c04fc964ff}.x", 1)
    ctx.publish("orders.{a", 1)
    assert len(ctx.staged) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"delay": "3"}, "delay= is a number of seconds, not '3'"),
        ({"delay": timedelta(seconds=3)}, "delay= is a number of seconds"),
        ({"at": "2030-01-01"}, "at= is a datetime with a timezone, not '2030-01-01'"),
    ],
)
def test_an_argument_of_another_type_is_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        made().publish("payments.c1", 1, **options)


def test_a_time_without_a_timezone_is_told_how_to_be_written() -> None:
    with pytest.raises(ValueError, match=r"has no timezone: write datetime\.now\(UTC\)"):
        made().publish("payments.c1", 1, at=datetime(2030, 1, 1))  # noqa: DTZ001  # what is tested
