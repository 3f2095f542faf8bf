"""Which stream captures a subject: one, whole, or an error that helps."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.streams.capture import StreamSubjects, capture, covered, require_order, subjects_of_stream
from runner.core.streams.plan import function_of
from runner.core.subject import Template
from runner.errors import NoStream, UsageError


def streams(**subjects: list[str]) -> list[StreamSubjects]:
    return [
        subjects_of_stream(name, {"subjects": own}, f"streams/{name.lower()}.toml")
        for name, own in subjects.items()
    ]


def test_a_subject_belongs_to_the_stream_that_covers_it() -> None:
    known = streams(ORDERS=["orders.>"], REFUNDS=["refunds.*"])
    assert capture("orders.*.created", known) == "ORDERS"
    assert capture("refunds.eu", known) == "REFUNDS"


@pytest.mark.parametrize(
    ("patterns", "subject", "whole"),
    [
        (["a.>"], "a.*.b", True),
        (["a.*", "a.*.>"], "a.>", True),
        (["a.*", "a.*.*"], "a.>", False),
        (["a.*", "a.*.*", "a.*.*.>"], "a.>", True),
        (["*", "*.>"], ">", True),
        (["a.x", "a.y"], "a.*", False),
        ([], "a.>", False),
    ],
)
def test_several_subjects_of_one_stream_capture_together(
    patterns: list[str], subject: str, whole: bool
) -> None:
    assert covered(patterns, subject) is whole


def test_a_misspelt_subject_is_told_the_nearest_stream_file() -> None:
    with pytest.raises(NoStream, match=r"no stream captures order.\*.created") as caught:
        capture("order.*.created", streams(ORDERS=["orders.*.created"], REFUNDS=["refunds.*"]))
    assert caught.value.hint.startswith('streams/orders.toml comes nearest with "orders.*.created"')


def test_a_new_subject_is_told_the_file_to_write() -> None:
    with pytest.raises(NoStream) as caught:
        capture("payments.*", streams(ORDERS=["orders.*.created"]))
    assert 'create streams/payments.toml with name = "PAYMENTS"' in caught.value.hint


def test_a_subject_captured_in_part_is_an_error() -> None:
    with pytest.raises(
        NoStream, match=r"ORDERS \(streams/orders.toml\) captures orders.\*.\* only in part: orders.eu.>"
    ):
        capture("orders.*.*", streams(ORDERS=["orders.eu.>"]))


def test_two_streams_are_told_apart_by_choice() -> None:
    moved: dict[str, Any] = {"subjects": ["in.>"], "subject_transform": {"src": "in.>", "dest": "orders.>"}}
    known = [*streams(ORDERS=["orders.>"]), subjects_of_stream("MOVED", moved)]
    with pytest.raises(UsageError, match="ORDERS and MOVED both capture") as caught:
        capture("orders.a", known)
    assert 'stream="ORDERS"' in caught.value.hint
    assert capture("orders.a", known, chosen="MOVED") == "MOVED"


def test_a_consumer_sees_the_transformed_subject_and_a_publisher_the_original() -> None:
    config: dict[str, Any] = {
        "subjects": ["in.*"],
        "subject_transform": {"src": "in.*", "dest": "shard.{{partition(8,1)}}.{{wildcard(1)}}"},
    }
    known = [subjects_of_stream("IN", config)]
    assert capture("shard.*.eu", known) == "IN"
    assert capture("in.eu", known, publishing=True) == "IN"
    with pytest.raises(NoStream):
        capture("in.eu", known)


def test_a_mirror_is_read_only_by_choice() -> None:
    known = [*streams(ORDERS=["orders.>"]), subjects_of_stream("COPY", {"mirror": {"name": "ORDERS"}})]
    assert capture("orders.a", known) == "ORDERS"
    assert capture("orders.a", known, chosen="COPY") == "COPY"


def test_a_chosen_stream_must_exist_and_capture() -> None:
    with pytest.raises(NoStream, match="there is no stream NOPE"):
        capture("orders.a", streams(ORDERS=["orders.>"]), chosen="NOPE")
    with pytest.raises(NoStream, match=r"ORDERS .* does not capture refunds"):
        capture("refunds.a", streams(ORDERS=["orders.>"]), chosen="ORDERS")


@pytest.mark.parametrize(
    ("durable", "function"),
    [
        ("shop-charge", "charge"),
        ("shop-charge-2-17", "charge"),
        ("shop-eu-charge", None),
        ("shop-2", None),
        ("shopcharge", None),
        ("other-charge", None),
    ],
)
def test_a_durable_tells_its_function(durable: str, function: str | None) -> None:
    assert function_of(durable, "shop") == function


SHARDS = {"src": "ledger.*.*", "dest": "shard.2.{{partition(4,1)}}.ledger.{{wildcard(1)}}.{{wildcard(2)}}"}


def test_a_sharded_stream_is_known_by_its_publishers_subjects_alone() -> None:
    ledger = subjects_of_stream("LEDGER", {"subjects": ["ledger.*.*"], "subject_transform": SHARDS})
    assert capture("ledger.*.paid", [ledger]) == "LEDGER"
    assert capture("ledger.a.paid", [ledger], publishing=True) == "LEDGER"
    with pytest.raises(NoStream):
        capture("shard.2.0.ledger.*.paid", [ledger])


@pytest.mark.parametrize(
    ("subject", "ordered_by", "hint"),
    [
        ("ledger.{account}.*", ("account",), ""),
        ("ledger.{account}.{kind}", ("kind", "account"), ""),
        ("ledger.{account}.*", (), ""),
        ("ledger.house.{kind}", ("kind",), ""),
        ("ledger.{account}.{kind}", ("kind",), "ordered_by=('kind', 'account')"),
        ("ledger.*.{kind}", ("kind",), "name token 2 of the subject, and add it"),
    ],
)
def test_a_key_must_stand_in_one_shard(subject: str, ordered_by: tuple[str, ...], hint: str) -> None:
    ledger = subjects_of_stream("LEDGER", {"subjects": ["ledger.*.*"], "subject_transform": SHARDS})
    if not hint:
        require_order(ledger, Template.parse(subject), ordered_by)
        return
    with pytest.raises(UsageError, match="LEDGER is sharded by token 2 of its subjects") as caught:
        require_order(ledger, Template.parse(subject), ordered_by)
    assert hint in caught.value.hint


def test_without_shards_any_token_makes_a_key() -> None:
    (ledger,) = streams(LEDGER=["ledger.*.*"])
    require_order(ledger, Template.parse("ledger.*.{kind}"), ("kind",))
