"""What can be measured, each by its name: `just bench NAME`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from benchmarks import beside, comparisons, growth, http, latency
from benchmarks.arena import Arena
from benchmarks.clients import WIDE
from benchmarks.comparisons import BATCH, BATCHED_KEYS, KEYS, Found
from benchmarks.http import Idle


class Section(msgspec.Struct, frozen=True):
    title: str
    says: str
    """What the work is, in a sentence or two."""
    contenders: Callable[[Arena], Found]
    axis: str = ""
    """What grows, where that is shown."""
    counted: str = "messages"
    """What the rate counts."""
    idle: Callable[[Arena], list[Idle]] = lambda _: []
    """Measures what idle connections keep in memory, where there are some."""


COMPARISONS = {
    "throughput": Section(
        "No-op, no headers",
        "A function that does nothing with a typed body, messages without headers, tracing off.",
        comparisons.throughput,
    ),
    "real": Section(
        "Real messages",
        "Messages with a `traceparent` that is not sampled, a `Nats-Msg-Id` and a header of the user's; a function that takes the typed "
        "body, a token of the subject and the context, with default tracing. nats-py and natsio read the headers; nothing else is "
        "traced. FastStream's handler has the same signature.",
        comparisons.real,
    ),
    "real_outputs": Section(
        "Real messages, an output each",
        "The same, and each message makes one output of its own size with a message id, stored before the input is acknowledged.",
        comparisons.real_outputs,
    ),
    "outputs": Section(
        "No headers, an output each",
        "A function that returns its input, messages without headers, tracing off; the output is stored before the input is acknowledged.",
        comparisons.outputs,
    ),
    "default": Section(
        "Default settings",
        f"A function without a `concurrency` of its own, beside one with {WIDE}.",
        comparisons.default,
    ),
    "tracing": Section(
        "Tracing",
        "Messages without headers. Default tracing takes up to 100 messages a second of them. Traces go to a sink that only reads.",
        comparisons.tracing,
    ),
    "traced": Section(
        "Tracing beside FastStream's",
        "The same with handlers that do nothing and that use 0.1 ms of CPU, beside FastStream without and with its OpenTelemetry middleware, which "
        "traces every message: two spans for one without headers, through the SDK's exporter. What computes and FastStream get a twentieth of the messages. Dropped spans are told.",
        comparisons.traced,
    ),
    "ordered": Section(
        "Strict order",
        f"A function that does nothing on {KEYS:,} keys, with `ordered_by` and without, on the same stream.",
        comparisons.ordered,
    ),
    "work": Section(
        "Handlers that work",
        f"A handler that uses 0.1 ms of CPU, and handlers that await 1 and 10 ms, on {KEYS:,} keys and 8 shards, with `ordered_by` "
        f"and without; concurrency {WIDE} where nothing else is said.",
        comparisons.work,
    ),
    "hot_key": Section(
        "One hot key",
        "All messages have the same key: one at a time. nats-py beside it has one message outstanding.",
        comparisons.hot_key,
    ),
    "batches": Section(
        "Batches",
        f"Real messages, as above, {BATCH} in one call, beside a call for each, and beside FastStream's batch subscriber, whose handler takes "
        f"the bodies alone. The ordered functions have {BATCHED_KEYS} keys on 8 shards.",
        comparisons.batches,
    ),
    "requests": Section(
        "Requests",
        "One process asks another: nats-py's `request` and a callback, and the same of Go's client (nats.go 1.55), beside `app.request` and a function "
        "with `@reply`, which has default tracing, a deadline, and chooses the instance. All decode and encode JSON. CPU is that of both processes "
        "together, a request.",
        comparisons.requests,
        counted="requests",
    ),
    "http": Section(
        "HTTP",
        "`wrk` asks Starlette that answers by itself, a function with `@route` in the gateway, and one with `@reply` behind it, a hop over NATS away; "
        "both servers run on uvicorn, and decode and encode 150 bytes of JSON. CPU is that of the HTTP server alone, a request; memory is what it had "
        "after the run.",
        http.contenders,
        counted="requests",
        idle=http.idle,
    ),
}
GROWTH = {
    "functions": Section(
        "Functions",
        "The same messages shared by more functions of one process, each with a subject and a durable of its own.",
        growth.functions,
        "functions",
    ),
    "shards": Section(
        "Shards",
        f"An ordered function on {KEYS:,} keys; one process has all shards.",
        growth.shards,
        "shards",
    ),
    "keys": Section("Keys", "An ordered function on 8 shards.", growth.keys, "keys"),
    "in_flight": Section(
        "In flight",
        "A function that does nothing, with more and more messages at work at once.",
        growth.in_flight,
        "concurrency",
    ),
    "body": Section(
        "Body size",
        "Larger JSON bodies: ours decodes them, nats-py does not.",
        growth.body,
        "bytes of a body",
    ),
}
SECTIONS = COMPARISONS | GROWTH
LATENCIES = {"latency": latency, "beside": beside}
"""Of these the delays are told, and no rate."""
NAMES = (*COMPARISONS, *LATENCIES, *GROWTH)
GROUPS = {"all": NAMES, "growth": tuple(GROWTH)}
