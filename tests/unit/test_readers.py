"""Which functions read a message, by the durables on its stream."""

from __future__ import annotations

from typing import Any

import pytest

from runner.jetstream.readers import KnownFunction, readers


def durable(name: str, function: str, *filters: str, **metadata: str) -> dict[str, Any]:
    return {
        "name": name,
        "config": {
            "metadata": {"jetrunner.function": function, **metadata},
            "filter_subjects": list(filters),
        },
    }


CHARGE = durable("shop-charge", "charge", "orders.*")
SHARDS = [durable(f"shop-post-1-{number}", "post", f"shard.1.{number}.orders.*") for number in (0, 1)]


def found(
    stored: str | None, *consumers: dict[str, Any], known: tuple[KnownFunction, ...] = ()
) -> list[tuple[str, str, bool, str]]:
    return [
        (each.project, each.function, each.ordered, each.durable["name"] if each.durable is not None else "")
        for each in readers("shop", stored, consumers, known)
    ]


@pytest.mark.parametrize(
    ("consumers", "told"),
    [
        ([CHARGE], [("shop", "charge", False, "shop-charge")]),
        ([durable("shop-charge", "charge")], [("shop", "charge", False, "shop-charge")]),
        ([durable("shop-charge", "charge", "others.*")], []),
        ([durable("my-shop-charge", "charge", "orders.*")], [("my-shop", "charge", False, "my-shop-charge")]),
        ([durable("mine", "charge", "orders.*")], []),
        ([durable("charge", "charge", "orders.*")], []),
        ([durable("mine", "charge", "orders.*", **{"jetrunner.project": "books"})], [("books", "charge", False, "mine")]),
        ([durable("plain", "", "orders.*")], []),
        ([durable("shop--relay", "-relay", "orders.*")], []),
    ],
)  # fmt: skip
def test_a_durable_tells_its_project_its_function_and_what_it_reads(
    consumers: list[dict[str, Any]], told: list[tuple[str, str, bool, str]]
) -> None:
    assert found("orders.a", *consumers) == told


def test_of_shards_the_one_counts_that_the_message_stands_in() -> None:
    assert found("shard.1.1.orders.a", *SHARDS) == [("shop", "post", True, "shop-post-1-1")]
    # The next generation has no durables yet.
    assert found("shard.2.0.orders.a", *SHARDS) == [("shop", "post", True, "")]


def test_what_code_says_counts_where_there_is_no_durable_or_one_of_before() -> None:
    known = KnownFunction(function="post", subject="orders.*", ordered=True)
    assert found("orders.a", known=(known,)) == [("shop", "post", True, "")]
    assert found("others.a", known=(known,)) == []
    unordered = durable("shop-post", "post", "orders.*")
    assert found("orders.a", unordered, known=(known,)) == [("shop", "post", True, "")]
    chosen = KnownFunction(function="charge", subject="orders.*", durable="mine")
    assert found("orders.a", durable("mine", "", "orders.*"), known=(chosen,)) == [
        ("shop", "charge", False, "mine")
    ]


def test_of_a_message_that_is_gone_all_functions_count_that_read_its_stream() -> None:
    assert found(None, CHARGE, *SHARDS) == [
        ("shop", "charge", False, "shop-charge"),
        ("shop", "post", True, ""),
    ]
