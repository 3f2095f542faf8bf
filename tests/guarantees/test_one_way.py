"""Whatever a message carries and a handler takes, the same becomes of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from runner.telemetry.receiver import Receiver
from tests.support.eventually import eventually
from tests.support.health import asked
from tests.support.port import free_port
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

BEHAVIOURS = """
    import functools

    from msgspec import UNSET

    FAILED = set()

    def passing_on(handler):
        @functools.wraps(handler)
        async def call(ctx, **rest):
            return await handler(ctx=ctx, **rest)
        return call

    class Paid(Struct):
        id: int
        note: str = ""

    async def behave(function, order, k=None, ctx=None):
        note("run", function=function, id=order.id)
        if k is not None and int(k) != order.id:
            note("wrong", id=order.id, k=k)
        if ctx is not None:
            told = ctx.subject.split(".")[-1], ctx.headers.get("Tenant", ""), ctx.attempt, ctx.message_id
            note("told", id=order.id, told=told)
        match order.note:
            case "again" if (function, order.id) not in FAILED:
                FAILED.add((function, order.id))
                raise ValueError("once more")
            case "never":
                raise ValueError("never")
            case "late":
                await asyncio.sleep(30)
            case "late and takes it back":
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    asyncio.current_task().uncancel()
            case "cancels itself":
                asyncio.current_task().cancel()
                await asyncio.sleep(1)
            case "rejects":
                raise Reject("no")
            case "large":
                return Paid(order.id, "x" * 2_000_000)
            case "publishes":
                return UNSET
        return Paid(order.id)
"""
FUNCTION = """
    @consume("orders.{name}.{{k}}"{options}, timeout=1.5, retry=RetryPolicy.fixed(0.01, attempts=2))
    {decorated}async def {name}({takes}):
        {body}
"""
AWAITED = """made = await behave("{name}", order{more})
        if order.note == "publishes":
            {publish}
            return None
        return made"""
TAKES = {
    "body": "order: Order",
    "token": "order: Order, k: str",
    "context": "order: Order, k: int, ctx: Context",
    "keywords": "*, ctx: Context, k: str, order: Order",
    "decorated": "order: Order, ctx: Context, k: str",
}
OPTIONS = {"none": "", "ordered": ', ordered_by="k"', "aged": ", max_age=600"}
HEADERS: dict[str, dict[str, str]] = {
    "bare": {},
    "usual": {"Tenant": "acme", "traceparent": f"00-{7:032x}-{7:016x}-00"},
    "sampled": {"traceparent": f"00-{8:032x}-{8:016x}-01", "tracestate": "a=b"},
    "odd": {"Content-Type": "application/json; charset=utf-8", "X": "msgpack", "traceparent": "00-zz"},
}
SENDERS = {f"{7:016x}": None, f"{8:016x}": None}
EXPECTED = {
    "fine": (1, "", 1),
    "again": (2, "", 1),
    "never": (2, "exhausted", 0),
    "late": (2, "timeout", 0),
    "late and takes it back": (2, "timeout", 0),
    "cancels itself": (2, "exhausted", 0),
    "rejects": (1, "rejected", 0),
    "large": (2, "exhausted", 0),
    "publishes": (1, "", 1),
    "wrong": (0, "undecodable", 0),
}
"""Runs, the dead letter's reason, and outputs of a function that has some."""


def function(takes: str, options: str, *, output: bool) -> tuple[str, str]:
    """Name and source of one function."""
    name = f"{takes}_{options}_{'output' if output else 'alone'}"
    publish = f'ctx.publish("paid.{name}.{{}}".format(order.id), Paid(order.id))'
    more = "".join(f", {each}={each}" for each in ("k", "ctx") if f"{each}: " in TAKES[takes])
    body = AWAITED.format(
        name=name, more=more, publish=publish if "ctx" in TAKES[takes] else "return Paid(order.id)"
    )
    told = OPTIONS[options] + (f', output="paid.{name}.{{k}}"' if output else "")
    return name, FUNCTION.format(
        name=name, options=told, takes=TAKES[takes], body=body,
        decorated="@passing_on\n    " if takes == "decorated" else "",
    )  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(capacity=100_000) as receiver:
        yield receiver


HOOK = """
    from runner import around

    @around
    async def hook(ctx, call):
        await call()
"""


@pytest.mark.parametrize(
    ("traces", "hooks"),
    [
        ("none", ""),
        pytest.param("console", "", marks=pytest.mark.thorough),
        pytest.param("otlp", "", marks=pytest.mark.thorough),
        ("otlp", HOOK),
    ],
    ids=["none", "console", "otlp", "otlp and a hook"],
)
async def test_the_same_becomes_of_a_message_whatever_it_carries_and_its_handler_takes(
    shop: Shop, traces: str, hooks: str, receiver: Receiver
) -> None:
    functions = [
        function(*each, output=output) for output in (False, True) for each in product(TAKES, OPTIONS)
    ]
    await shop.open(BEHAVIOURS + hooks + "".join(source for _, source in functions))
    environment = {
        "OTEL_TRACES_EXPORTER": traces,
        "OTEL_TRACES_SAMPLER": "always_on" if traces == "otlp" else "",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_BSP_MAX_QUEUE_SIZE": "100000",
    }
    numbers: dict[int, tuple[str, str, str]] = {}
    for (name, _), (headers, behaviour) in product(functions, product(HEADERS, EXPECTED)):
        number = len(numbers)
        numbers[number] = name, headers, behaviour
        body = {"id": str(number)} if behaviour == "wrong" else {"id": number, "note": behaviour}
        await shop.js.publish(f"orders.{name}.{number}", body, HEADERS[headers])
    port = free_port()
    process = shop.run("--health", f"127.0.0.1:{port}", **environment)

    async def over() -> bool:
        infos = [await shop.js.consumer("ORDERS", each) for each in await shop.js.consumers("ORDERS")]
        return len(infos) >= len(functions) and not any(
            info["num_pending"] + info["num_ack_pending"] for info in infos
        )

    await eventually(over, within=180)
    runs = Counter(each["id"] for each in shop.notes("run"))
    letters = {
        int(letter.headers["Jetrunner-Dead-Subject"].split(".")[-1]): reason(letter)
        for letter in await shop.dead()
    }
    outputs = Counter(int(each.subject.split(".")[-1]) for each in await shop.js.messages("PAID"))
    found = {
        (name, headers, behaviour): (runs[number], letters.get(number, ""), outputs[number])
        for number, (name, headers, behaviour) in numbers.items()
    }
    expected = {}
    for name, headers, behaviour in numbers.values():
        ran, why, made = EXPECTED[behaviour]
        has_output, takes_context = (
            name.endswith("output"),
            name.startswith(("context", "keywords", "decorated")),
        )
        if behaviour == "large" and not has_output:
            ran, why = 1, ""
        if not has_output and not (behaviour == "publishes" and takes_context):
            made = 0
        expected[name, headers, behaviour] = ran, why, made
    assert found == expected
    assert process.running
    assert shop.notes("wrong") == []
    await eventually(lambda: all_timed(shop, port))
    attempts = Counter[int]()
    for each in shop.notes("told"):
        number = each["id"]
        attempts[number] += 1
        tenant = HEADERS[numbers[number][1]].get("Tenant", "")
        assert each["told"] == [str(number), tenant, attempts[number], f"ORDERS:{number + 1}"]
    if traces != "otlp":
        return
    consumed = sum(max(1, runs[number]) for number in numbers)
    # Before its end, which waits for a receiver that stands still for three seconds only.
    await eventually(lambda: sum(span.kind == "consumer" for span in receiver.spans()) >= consumed)
    process.terminate()
    assert await process.ended() == 0
    spans = {span.span_id: span for span in receiver.spans()}
    begun = Counter(
        span.attributes["messaging.message.id"] for span in spans.values() if span.kind == "consumer"
    )
    for message in await shop.js.messages("ORDERS"):
        number = int(message.subject.split(".")[-1])
        assert begun[f"ORDERS:{message.sequence}"] == max(1, runs[number])
    assert not [span for span in spans.values() if span.parent_id and span.parent_id not in spans | SENDERS]
    for paid in await shop.js.messages("PAID"):
        sent = spans[paid.headers["traceparent"].split("-")[2]]
        assert (sent.kind, spans[sent.parent_id].kind) == ("producer", "consumer")
        assert sent.attributes["messaging.message.id"] == f"PAID:{paid.sequence}"
        assert sent.attributes["jetrunner.stream"] == "PAID"


async def all_timed(shop: Shop, port: int) -> bool:
    """Whether each attempt is timed, as it is soon after its message was settled."""
    _, metrics = await asked(port, "/metrics")
    timed = dict(re.findall(r'jetrunner_duration_seconds_count\{function="(\w+)"\} (\d+)', metrics))
    attempted = Counter(each["function"] for each in shop.notes("run"))
    return {name: int(count) for name, count in timed.items()} == attempted
