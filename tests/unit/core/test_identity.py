"""Names on the wire."""

from __future__ import annotations

import re

import pytest

from runner.core import identity


@pytest.mark.parametrize(
    ("raw", "name"), [("shop", "shop"), ("my.shop", "my-shop"), ("My_Shop-2", "My_Shop-2")]
)
def test_a_project_name_has_its_dots_made_dashes(raw: str, name: str) -> None:
    assert identity.project_name(raw) == name


@pytest.mark.parametrize("raw", ["", "my shop", "größe", "a/b", "a\n", "*"])
def test_a_project_name_nats_could_not_bear_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match="project name"):
        identity.project_name(raw)


@pytest.mark.parametrize(
    "key",
    [
        "k" * 201,
        "é" * 101,
        "*",
        "a.*",
        ">",
        "a\x1bb",
        "a\u00a0b",
        "a b",
        "\udcff",
        "~",
        "~x",
        "a..b",
        "x" * 4_000,
    ],
)
def test_a_key_that_cannot_stand_in_our_subjects_stands_as_a_hash(key: str) -> None:
    token = identity.key_token(key)
    assert re.fullmatch("~[0-9a-f]{32}", token)
    assert identity.parked_subject("shop", "charge", key) == f"parked.shop.charge.{token}"
    assert identity.key_token(token) != token, "nobody can give his key another's hash as its name"


@pytest.mark.parametrize("key", ["anna", "ann.eu", "k" * 200, "münchen", "a*b", "a~"])
def test_any_other_key_stands_as_it_is(key: str) -> None:
    assert identity.key_token(key) == key


def test_without_a_key_all_of_them_are_meant() -> None:
    assert identity.parked_subject("shop", "charge") == "parked.shop.charge.>"


def test_names_are_those_the_contract_promises() -> None:
    assert identity.durable("shop", "charge") == "shop-charge"
    assert identity.dead_subject("shop", "charge") == "deadletters.shop.charge"
    assert identity.again_subject("shop", "charge") == "$JETRUNNER.again.shop.charge"
    assert identity.parked_subject("shop", "charge", "ann.eu") == "parked.shop.charge.ann.eu"
    assert identity.shard_durable("shop", "charge", 1, 31) == "shop-charge-1-31"
    assert identity.message_id("ORDERS", 17) == "ORDERS:17"
    assert identity.output_id("ORDERS", 17, 1700, "shop", "charge", 0) == "ORDERS:17.1700:shop-charge:0"
