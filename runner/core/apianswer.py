"""Answers of the JetStream API: all fields that the runner reads are checked before it reads any.

An answer that lacks a field, or has another type there, comes from no known nats-server.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from runner.core import checked
from runner.core.checked import Count, Line

LONGEST = 200


class _Config(Struct):
    name: str


class _State(Struct):
    messages: Count
    bytes: Count
    last_seq: Count
    first_seq: Count = 0
    first_ts: Line = ""
    subjects: dict[str, Any] | None = None


class _Stream(Struct):
    config: _Config
    created: Line
    state: _State
    total: Count = 0
    ts: Line = ""


class _Place(Struct):
    consumer_seq: Count
    stream_seq: Count


class _Consumer(Struct):
    name: str
    created: Line
    config: dict[str, Any]
    delivered: _Place
    ack_floor: _Place
    num_ack_pending: Count
    num_pending: Count
    num_waiting: Count = 0


class _Stored(Struct):
    seq: Count
    time: Line
    subject: str
    hdrs: str | None = None
    data: str | None = None


class _Message(Struct):
    message: _Stored


class _Listed(Struct):
    config: _Config


class _Streams(Struct):
    total: Count = 0
    streams: list[_Listed] | None = None


class _Consumers(Struct):
    total: Count = 0
    consumers: list[_Consumer] | None = None


_SHAPES: dict[str, Any] = {
    "STREAM.INFO.": _Stream,
    "STREAM.CREATE.": _Stream,
    "STREAM.UPDATE.": _Stream,
    "STREAM.LIST": _Streams,
    "STREAM.MSG.GET.": _Message,
    "CONSUMER.INFO.": _Consumer,
    "CONSUMER.CREATE.": _Consumer,
    "CONSUMER.LIST.": _Consumers,
}


def check(request: str, answer: dict[str, Any]) -> str:
    """Say what is wrong with the answer to a request such as `STREAM.INFO.ORDERS`; empty when it is right."""
    for prefix, shape in _SHAPES.items():
        if request.startswith(prefix):
            try:
                checked.shaped(answer, shape)
            except checked.Unfit as error:
                return str(error)[:LONGEST]
    return ""


def raise_floors(request: str, answer: dict[str, Any]) -> None:
    """Raise the ack floor, in a checked answer, of a consumer that has acked nothing yet: to the message before its first.

    nats-server 2.12 reports 0 until the first ack, newer ones report where the consumer begins. If 0 were remembered as
    settled, the next durable would read everything once more.
    """
    if not request.startswith("CONSUMER."):
        return
    for info in answer.get("consumers") or [answer]:
        floor, delivered = info.get("ack_floor"), info.get("delivered")
        if floor is None or floor["consumer_seq"] or floor["stream_seq"]:
            continue
        none_delivered = delivered["stream_seq"] if not delivered["consumer_seq"] else 0
        floor["stream_seq"] = max(none_delivered, info["config"].get("opt_start_seq", 0) - 1, 0)
