"""The AsyncAPI document: subjects as channels, functions as operations, and no reference that leads nowhere.

It was held against the official schema of AsyncAPI 3.0.0, which no package brings; what it asks of these parts is asked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from runner.schemas import asyncapi
from tests.support import webshop


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi.document(webshop.project())


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def at(document: Any, reference: str) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


def test_it_has_the_parts_that_the_specification_needs_and_no_others(document: dict[str, Any]) -> None:
    assert sorted(document) == [
        "asyncapi",
        "channels",
        "components",
        "defaultContentType",
        "info",
        "operations",
    ]
    assert document["asyncapi"] == "3.0.0"
    assert document["info"] == {"title": "shop", "version": "1.2.3"}
    for channel in document["channels"].values():
        assert {*channel} <= {"address", "messages", "parameters"}
        assert all({*message} == {"contentType", "payload"} for message in channel["messages"].values())
    for operation in document["operations"].values():
        assert {*operation} <= {"action", "channel", "summary", "description", "messages", "reply"}
        assert operation["action"] in ("send", "receive")


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = [*references(document)]
    assert len(found) > 20
    assert all(isinstance(at(document, each), dict) for each in found)


def test_messages_of_an_operation_are_those_of_its_channel(document: dict[str, Any]) -> None:
    for operation in document["operations"].values():
        sides = [operation, operation["reply"]] if "reply" in operation else [operation]
        for side in sides:
            assert all(
                each["$ref"].startswith(side["channel"]["$ref"] + "/messages/") for each in side["messages"]
            )


def test_every_token_of_an_address_is_a_parameter(document: dict[str, Any]) -> None:
    for name, channel in document["channels"].items():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
        tokens = re.findall(r"\{(\w+)\}", channel["address"] or "")
        assert tokens == [*channel.get("parameters", {})]


def test_a_subject_is_one_channel_whoever_reads_or_writes_it(document: dict[str, Any]) -> None:
    assert {name: each["address"] for name, each in document["channels"].items()} == {
        "days-day": "days.{day}", "lines-day": "lines.{day}", "orders-created": "orders.created", "pages-day": "pages.{day}",
        "parcels": "parcels.{token2}", "parcels-made": "parcels.made", "quotes": "quotes", "quotes-reply": None,
        "stock-sku": "stock.{sku}", "stock-sku-reply": None, "ticks": "ticks",
    }  # fmt: skip
    assert sorted(document["channels"]["orders-created"]["messages"]) == ["created-output", "pack"]


def test_functions_read_publish_and_answer(document: dict[str, Any]) -> None:
    actions = {name: (each["action"], "reply" in each) for name, each in document["operations"].items()}
    assert actions == {
        "created-output": ("send", False), "pack": ("receive", False), "pack-output": ("send", False), "ship": ("receive", False),
        "split": ("receive", False), "split-output": ("send", False), "joined": ("receive", False), "joined-output": ("send", False),
        "stock": ("receive", True), "quote": ("receive", True), "tick-output": ("send", False),
    }  # fmt: skip
    assert document["operations"]["stock"]["summary"] == "How many are left."


def test_an_output_is_never_none_and_an_item_of_a_generator_is_one_message(document: dict[str, Any]) -> None:
    item = {"$ref": "#/components/schemas/Item"}
    assert document["channels"]["parcels-made"]["messages"]["pack-output"]["payload"] == item
    assert document["channels"]["lines-day"]["messages"]["split-output"]["payload"] == item
    assert document["channels"]["pages-day"]["messages"]["split"]["contentType"] == "text/plain"
