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
        "A function with a typed body that does nothing. Messages have no headers, and tracing is off.",
        comparisons.throughput,
    ),
    "real": Section(
        "Real messages",
        "Messages have a `traceparent` that is not sampled, a `Nats-Msg-Id` and a header of the user's. The function takes the typed "
        "body, a token of the subject and the context, with default tracing. nats-py and natsio read the headers, but trace nothing. "
        "FastStream's handler has the same signature.",
        comparisons.real,
    ),
    "real_outputs": Section(
        "Real messages, an output each",
        "As above, and each message makes one output of the same size with a message id. The output is stored before the input is acknowledged.",
        comparisons.real_outputs,
    ),
    "outputs": Section(
        "No headers, an output each",
        "A function that returns its input. Messages have no headers, and tracing is off. The output is stored before the input is acknowledged.",
        comparisons.outputs,
    ),
    "default": Section(
        "Default settings",
        f"A function without a `concurrency` of its own, beside one with {WIDE}.",
        comparisons.default,
    ),
    "tracing": Section(
        "Tracing",
        "Messages have no headers. Default tracing traces up to 100 of them a second. Spans go to a collector that reads and drops them.",
        comparisons.tracing,
    ),
    "traced": Section(
        "Tracing beside FastStream's",
        "As above, with handlers that do nothing and handlers that use 0.1 ms of CPU, beside FastStream without and with its OpenTelemetry middleware. "
        "That traces every message: two spans for each without headers, through the SDK's exporter. Handlers that use CPU, and FastStream, get a twentieth "
        "of the messages. The number of dropped spans stands in brackets.",
        comparisons.traced,
    ),
    "ordered": Section(
        "Strict order",
        f"A function that does nothing, with `ordered_by` and without, on the same stream with {KEYS:,} keys.",
        comparisons.ordered,
    ),
    "work": Section(
        "Handlers that work",
        f"A handler that uses 0.1 ms of CPU, and handlers that await 1 and 10 ms, on {KEYS:,} keys and 8 shards, with `ordered_by` "
        f"and without. Concurrency is {WIDE} unless the line says otherwise.",
        comparisons.work,
    ),
    "hot_key": Section(
        "One hot key",
        "All messages have the same key, so they run one at a time. nats-py has one message outstanding.",
        comparisons.hot_key,
    ),
    "batches": Section(
        "Batches",
        f"Real messages, as above: {BATCH} in one call, compared with one call for each, and with FastStream's batch subscriber, whose handler "
        f"takes only the bodies. The ordered functions have {BATCHED_KEYS} keys on 8 shards.",
        comparisons.batches,
    ),
    "requests": Section(
        "Requests",
        "One process asks another. nats-py and Go's client (nats.go 1.55) use `request` and a callback. Jetrunner uses `app.request` and a function "
        "with `@reply`, with default tracing, a deadline and the choice of an instance. All decode and encode JSON. CPU is the time of both processes "
        "together for one request.",
        comparisons.requests,
        counted="requests",
    ),
    "http": Section(
        "HTTP",
        "`wrk` sends requests to Starlette, to a function with `@route` in the gateway, and to one with `@reply` that the gateway asks over NATS. "
        "Both HTTP servers run on uvicorn, and decode and encode 150 bytes of JSON. CPU is the time of the HTTP server alone for one request. Memory "
        "is measured after the run.",
        http.contenders,
        counted="requests",
        idle=http.idle,
    ),
}
GROWTH = {
    "functions": Section(
        "Functions",
        "The same number of messages is shared by 1 to 200 functions of one process, each with its own subject and durable.",
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
        "A function that does nothing, with a growing `concurrency`.",
        growth.in_flight,
        "concurrency",
    ),
    "body": Section(
        "Body size",
        "JSON bodies of growing size. Jetrunner decodes them, nats-py does not.",
        growth.body,
        "bytes of a body",
    ),
}
SECTIONS = COMPARISONS | GROWTH
LATENCIES = {"latency": latency, "beside": beside}
"""Of these the delays are told, and no rate."""
NAMES = (*COMPARISONS, *LATENCIES, *GROWTH)
GROUPS = {"all": NAMES, "growth": tuple(GROWTH)}
