"""What is hidden of the messages of a batch is hidden whole, whichever of them it stands in."""

from __future__ import annotations

from typing import cast

from runner.core.redaction import Rules
from runner.jetstream.delivery import Delivery, Source
from runner.pipeline.hiding import Hiding


def delivery(body: bytes) -> Delivery:
    return Delivery(b"cards.a", b"", None, body, 1, 1, cast("Source", None), careful=False)


def test_what_is_hidden_of_one_message_and_begins_with_that_of_another_is_hidden_whole() -> None:
    deliveries = [delivery(b'{"card": "4000"}'), delivery(b'{"card": "4000-secret"}')]
    hide = Hiding.of_all(Rules.of(["card"]), deliveries)
    assert hide("no insert of 4000 and 4000-secret") == "no insert of [redacted] and [redacted]"
