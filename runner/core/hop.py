"""Spans of nats-server: each server that passes on a traced message reports that, and the report becomes a span.

A server publishes one JSON document for each traced message, if the account is configured so (`msg_trace`; ADR-41).
Measured with nats-server 2.15: a message without `Nats-Trace-Hop` came from a client. A server that sends it on numbers the
servers that it sends it to (`1`, `2`), and these number theirs below (`1.1`). It does not report JetStream's deliveries to consumers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TypeAlias

from msgspec import Struct, field

from runner.core import checked, traceparent
from runner.core.checked import Line, Told
from runner.core.traceparent import TraceParent

Facts: TypeAlias = Mapping[str, str]

# How a message came, or goes on: the index is the server's own number.
_WAYS = ("client", "route", "gateway", "system", "leafnode", "jetstream", "account")
# The error of a message that was stored before, which is no failure.
_DUPLICATE = "msgid is duplicate"


class _Server(Struct):
    name: Line = ""
    id: Line = ""
    ver: Line = ""
    cluster: Line = ""

    @property
    def named(self) -> str:
        """The name that its operator gave it; a server without a name sends its id as its name."""
        return self.name if self.name != self.id else ""


class _Request(Struct):
    header: dict[str, list[str]] = field(default_factory=dict)


class _Told(Struct):
    type: Line = ""
    ts: Line = ""
    kind: int = -1
    acc: Line = ""
    name: Line = ""
    subj: Told = ""
    to: Told = ""
    sub: Told = ""
    queue: Told = ""
    subject: Told = ""
    stream: Line = ""
    error: Line = ""


class _Passed(Struct):
    server: _Server
    request: _Request
    events: list[_Told]


class HopEvent(Struct, frozen=True):
    """One thing that the server did with the message."""

    name: str
    time_ns: int
    facts: Facts


class Hop(Struct, frozen=True):
    """A message's way through one server."""

    server: _Server
    parent: TraceParent
    """The span that the message was sent in: the sender's, or that of the hop before."""
    span_id: str
    name: str
    start_ns: int
    end_ns: int
    facts: Facts
    events: tuple[HopEvent, ...]
    error: str
    """Why the server did not do what was asked; empty: it did."""


_read = checked.json(_Passed)


def read(body: bytes, nanoseconds: Callable[[str], int]) -> Hop | None:
    """Read a server's report; None when it belongs to no trace. `nanoseconds` parses its times. Raises `checked.Unfit`."""
    passed = _read(body)
    headers = {name.lower(): values[0] for name, values in passed.request.header.items() if values}
    sent = traceparent.parse(headers.get("traceparent"))
    came = next((each for each in passed.events if each.type == "in"), None)
    if sent is None or came is None:
        return None
    hop, message_id = headers.get("nats-trace-hop", ""), headers.get("nats-msg-id", "")
    moved = [each.to for each in passed.events if each.type in {"sm", "si"} and each.to]
    subject = moved[-1] if moved else came.subj

    def named(hop: str) -> str:
        """Make the id of the message's span in the server of a hop; each report of that server gives the same."""
        parts = (sent.trace_id, sent.span_id, message_id, subject, hop)
        digest = blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=8)
        return digest.hexdigest()

    way = _way(came)
    before = named(hop.rpartition(".")[0]) if hop else sent.span_id
    times = [time for each in passed.events if (time := nanoseconds(each.ts))]
    if not times:
        return None
    return Hop(
        passed.server,
        TraceParent(sent.trace_id, before, sampled=True),
        named(hop),
        f"{passed.server.named or 'nats-server'} from {way}",
        min(times),
        max(times),
        _facts(passed.server, came, way),
        tuple(
            HopEvent(name, nanoseconds(each.ts), facts)
            for each in passed.events
            for name, facts in [_event(each)]
            if name
        ),
        next((each.error for each in passed.events if each.error and each.error != _DUPLICATE), ""),
    )


def _way(told: _Told) -> str:
    return _WAYS[told.kind] if 0 <= told.kind < len(_WAYS) else "elsewhere"


def _facts(server: _Server, came: _Told, way: str) -> Facts:
    told = {
        "messaging.system": "nats",
        "messaging.destination.name": came.subj,
        "nats.server.name": server.name,
        "nats.cluster.name": server.cluster,
        "nats.account": came.acc,
        "nats.from": way,
        "nats.from.name": came.name,
    }
    return {name: value for name, value in told.items() if value}


def _event(told: _Told) -> tuple[str, Facts]:
    """The name and the facts of a span event; the name is empty for a report that is no event."""
    way = _way(told)
    match told.type:
        case "js" if told.error == _DUPLICATE:
            return "stored before", {"nats.stream": told.stream}
        case "js":
            name, facts = "stored", {"nats.stream": told.stream, "nats.subject": told.subject}
        case "eg":
            name = "delivered" if way == "client" else "sent on"
            facts = {
                "nats.to": way,
                "nats.to.name": told.name,
                "nats.subscription": told.sub,
                "nats.queue": told.queue,
            }
        case "sm" | "si" | "se":
            name, facts = "mapped", {"nats.subject": told.to, "nats.account": told.acc}
        case _:
            return "", {}
    if told.error:
        name, facts = "refused", {**facts, "error.message": told.error}
    return name, {key: value for key, value in facts.items() if value}
