"""Names on the wire."""

from __future__ import annotations

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


def test_names_are_those_the_contract_promises() -> None:
    assert identity.durable("shop", "charge") == "shop-charge"
    assert identity.dead_subject("shop", "charge") == "deadletters.shop.charge"
    assert identity.again_subject("shop", "charge") == "again.shop.charge"
    assert identity.parked_subject("shop", "charge", "ann.eu") == "parked.shop.charge.ann.eu"
    assert identity.shard_durable("shop", "charge", 1, 31) == "shop-charge-1-31"
    assert identity.message_id("ORDERS", 17) == "ORDERS:17"
    assert identity.output_id("ORDERS", 17, 1700, "shop", "charge", 0) == "ORDERS:17.1700:shop-charge:0"
