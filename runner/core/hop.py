"""What a nats-server tells of a message that it passed on, as the span that it becomes.

A server tells it of messages that are traced, one JSON document a server, where its account says so (`msg_trace`; ADR-41).
Measured with nats-server 2.15: a message without `Nats-Trace-Hop` came from a client; a server that sends it on numbers the
servers it sends it to (`1`, `2`), these number theirs below (`1.1`). What JetStream then delivers to consumers it does not tell.
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

# How a message came, or goes on: the server's own numbers.
_WAYS = ("client", "route", "gateway", "system", "leafnode", "jetstream", "account")
# Trouble of a message that is none: it was stored before.
_DUPLICATE = "msgid is duplicate"


class _Server(Struct):
    name: Line = ""
    id: Line = ""
    ver: Line = ""
    cluster: Line = ""

    @property
    def named(self) -> str:
        """What its operator calls it; one without a name tells its id as its name."""
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


class Event(Struct, frozen=True):
    """One thing that the server did with the message."""

    name: str
    time_ns: int
    facts: Facts


class Hop(Struct, frozen=True):
    """A message's way through one server."""

    server: _Server
    parent: TraceParent
    """What it was sent in: the sender's span, or the hop before."""
    span_id: str
    name: str
    start_ns: int
    end_ns: int
    facts: Facts
    events: tuple[Event, ...]
    error: str
    """Why the server did not do with it what was asked; empty where it did."""


_read = checked.json(_Passed)


def read(body: bytes, nanoseconds: Callable[[str], int]) -> Hop | None:
    """Read what a server told; None where it is of no trace. `nanoseconds` reads its times. Raises `checked.Unfit`."""
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
        """The span of the message in the server that a hop leads to: all servers make the same."""
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
            Event(name, nanoseconds(each.ts), facts)
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
    """Its name, empty for what is no event of a span."""
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
