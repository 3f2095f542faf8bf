"""What a server tells of a message becomes a span below what the message was sent in, and the same span in every server's eyes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.core import checked, hop
from runner.core.traceparent import TraceParent
from runner.jetstream.messages import nanoseconds

TRACE, SENDER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = f"00-{TRACE}-{SENDER}-01"
FIRST, LAST = "2026-11-29T14:19:39.419495843Z", "2026-11-29T14:19:39.42077514Z"
CAME = {"type": "in", "ts": FIRST, "kind": 0, "cid": 21, "acc": "APP", "subj": "orders.1"}
STORED = {"type": "js", "ts": LAST, "stream": "ORDERS", "subject": "orders.1"}
SENT_ON = {"type": "eg", "ts": LAST, "kind": 1, "cid": 11, "name": "n2", "hop": "1"}
HERE = {
    "name": "n1",
    "host": "127.0.0.1",
    "id": "NCLZ",
    "cluster": "test",
    "ver": "2.15.1",
    "jetstream": True,
}


def told(*events: dict[str, Any], server: str = "n1", **headers: str) -> bytes:
    """As nats-server 2.15.1 writes it."""
    given = {"traceparent": [SENT], **{name.replace("_", "-"): [value] for name, value in headers.items()}}
    return json.dumps(
        {"server": {**HERE, "name": server}, "request": {"header": given, "msgsize": 83}, "events": events}
    ).encode()


def read(*events: dict[str, Any], server: str = "n1", **headers: str) -> hop.Hop:
    found = hop.read(told(*events, server=server, **headers), nanoseconds)
    assert found is not None
    return found


def test_a_message_that_a_client_has_sent_hangs_on_what_it_was_sent_in() -> None:
    found = read(CAME, STORED)
    assert found.parent == TraceParent(TRACE, SENDER, sampled=True)
    assert found.name == "n1 from client"
    assert (found.start_ns, found.end_ns) == (nanoseconds(FIRST), nanoseconds(LAST))
    assert found.facts == {
        "messaging.system": "nats",
        "messaging.destination.name": "orders.1",
        "nats.server.name": "n1",
        "nats.cluster.name": "test",
        "nats.account": "APP",
        "nats.from": "client",
    }
    (stored,) = found.events
    assert (stored.name, stored.facts) == ("stored", {"nats.stream": "ORDERS", "nats.subject": "orders.1"})
    assert found.error == ""


def test_each_server_hangs_below_the_one_that_has_sent_the_message_on() -> None:
    here = read(CAME, SENT_ON)
    there = read({**CAME, "kind": 1, "name": "n1"}, server="n2", Nats_Trace_Hop="1")
    beyond = read({**CAME, "kind": 4, "name": "n2"}, server="leaf", Nats_Trace_Hop="1.2")
    assert there.parent.span_id == here.span_id
    assert beyond.parent.span_id == there.span_id
    assert len({SENDER, here.span_id, there.span_id, beyond.span_id}) == 4
    assert [each.name for each in (here, there, beyond)] == [
        "n1 from client",
        "n2 from route",
        "leaf from leafnode",
    ]


def test_a_server_that_has_mapped_the_subject_is_found_by_those_it_sends_it_to() -> None:
    here = read(CAME, {"type": "sm", "ts": FIRST, "to": "orders.7.1"}, SENT_ON)
    there = read({**CAME, "kind": 1, "subj": "orders.7.1"}, server="n2", Nats_Trace_Hop="1")
    assert there.parent.span_id == here.span_id
    assert [each.name for each in here.events] == ["mapped", "sent on"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((CAME, {}), ({**CAME, "subj": "_INBOX.1"}, {})),
        ((CAME, {"Nats_Msg_Id": "a"}), (CAME, {"Nats_Msg_Id": "b"})),
    ],
    ids=["a request and its answer", "two messages"],
)
def test_messages_that_were_sent_in_one_span_have_spans_of_their_own(one: Any, other: Any) -> None:
    assert read(one[0], **one[1]).span_id != read(other[0], **other[1]).span_id


def test_what_a_server_refuses_is_an_error_and_what_was_stored_before_is_none() -> None:
    refused = read(CAME, {**STORED, "error": "maximum messages exceeded"})
    assert refused.error == "maximum messages exceeded"
    assert refused.events[0].facts["error.message"] == "maximum messages exceeded"
    again = read(CAME, {"type": "js", "ts": LAST, "stream": "ORDERS", "error": "msgid is duplicate"})
    assert (again.error, again.events[0].name) == ("", "stored before")


def test_what_goes_to_a_subscription_says_which() -> None:
    found = read(CAME, {"type": "eg", "ts": LAST, "kind": 0, "sub": "orders.>", "queue": "shop"})
    (delivered,) = found.events
    assert delivered.name == "delivered"
    assert delivered.facts == {"nats.to": "client", "nats.subscription": "orders.>", "nats.queue": "shop"}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"server": HERE, "request": {"header": {}}, "events": [CAME]}).encode(),
        json.dumps({"server": HERE, "request": {}, "events": [CAME]}).encode(),
        told(),
        told(STORED),
        told({**CAME, "ts": "soon"}),
        told(CAME, traceparent="00-zero"),
    ],
)
def test_what_is_of_no_trace_is_no_span(body: bytes) -> None:
    assert hop.read(body, nanoseconds) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"server": {}, "request": {"header": {"a": "b"}}, "events": []}',
        b"[" * 100_000,
        told({**CAME, "subj": "a\nb"}),
    ],
)
def test_what_no_server_writes_is_unfit_and_nothing_else(body: bytes) -> None:
    with pytest.raises(checked.Unfit):
        hop.read(body, nanoseconds)


def test_what_a_later_server_may_tell_besides_is_no_trouble() -> None:
    found = read({**CAME, "kind": 99, "more": [1]}, {"type": "zz", "ts": LAST, "with": {"deep": 1}})
    assert found.name == "n1 from elsewhere"
    assert found.events == ()
