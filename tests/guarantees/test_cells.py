"""A message that may kill its process runs in one of its own: others go on, and what is done from outside convicts it of nothing."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.telemetry.receiver import Receiver
from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

LONG = """
    @consume("orders.{id}", timeout=600.0)
    async def charge(order: Order, ctx: Context) -> None:
        note("run", id=order.id)
        while not os.path.exists("open"):
            await asyncio.sleep(0.005)
        note("done", id=order.id)

    @consume("audit.{id}", retry=RetryPolicy.fixed(0.01))
    async def other(id: str, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("once more")
        note("other", id=id)
"""
SECOND = """
    class Wrong(Exception):
        def __init__(self, words, code):
            super().__init__(words)

    @lifespan
    async def state():
        yield {{"pid": os.getpid()}}

    @consume("orders.{{id}}", output="paid.{{id}}", timeout={timeout}, retry=RetryPolicy(attempts=9, delay=600.0, reject_on=(Wrong,)))
    {kind} charge(order: Order, id: int, ctx: Context) -> Order:
        note("run", id=id, attempt=ctx.attempt)
        if not os.path.exists("second"):
            time.sleep(600)
        note("there", state=ctx.state["pid"])
        {body}
        return order
"""


WAITS = 'while not os.path.exists("open"): await asyncio.sleep(0.01)'


async def stored(shop: Shop, sequence: int = 1) -> int:
    whole, _, rest = (await shop.js.message("ORDERS", sequence)).time.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(rest.ljust(9, "0"))


async def suspected(shop: Shop) -> None:
    """The first message of ORDERS is one whose process has died twice, as it would be after another kill."""
    process = shop.run()
    await shop.noted("run")
    process.kill()
    record = {"stored": await stored(shop), "starts": [{"instance": "gone-1", "stage": 1}]}
    await shop.js.publish("$KV.jetrunner.start.shop.charge.ORDERS.1", record)
    (shop.project.root / "second").touch()
    await shop.give_back("charge")


async def opened(
    shop: Shop, body: str, kind: str = "async def", note: str = "", timeout: float = 60.0
) -> RunnerProcess:
    """A runner in which the first message runs in a process of its own."""
    await shop.open(SECOND.format(body=body, kind=kind, timeout=timeout))
    await shop.order(1, note=note)
    await suspected(shop)
    return shop.run()


def in_cell(shop: Shop, process: RunnerProcess) -> bool:
    """Whether the latest handler ran in another process, with a lifespan of its own."""
    there = shop.notes("there")[-1]
    return bool(there["pid"] != process.pid and there["state"] == there["pid"])


@pytest.mark.parametrize(
    "what", ["the process", "its group", pytest.param("a worker", marks=pytest.mark.thorough)]
)
async def test_a_long_message_is_not_convicted_of_what_is_done_from_outside_and_others_go_on_beside_it(
    shop: Shop, what: str
) -> None:
    await shop.open(LONG)
    await shop.order(1)
    workers = ("--workers", "1") if what == "a worker" else ()
    process = shop.run(*workers)
    for kill in range(1, 6):
        await shop.noted("run", kill)
        await shop.js.publish(f"audit.{kill}", {})
        await shop.noted("other", kill)  # in its second attempt: what is suspected itself goes on, too
        match what:
            case "the process":
                process.kill()
            case "its group":
                os.killpg(process.pid, signal.SIGKILL)
                await process.ended()
            case "a worker":
                (worker,) = process.children()
                os.kill(worker, signal.SIGKILL)
                await process.seen(rf"pid {worker}\) ended: SIGKILL")
        await eventually(lambda: all_gone(shop))
        await shop.give_back("charge")
        if not workers:
            process = shop.run()
    assert len({each["pid"] for each in shop.notes("run")}) >= 5
    (shop.project.root / "open").touch()
    await shop.noted("done")
    await shop.give_back(
        "other", stream="AUDIT"
    )  # one of those beside it may have been killed before it was acknowledged
    await shop.settled("charge")
    await shop.settled("other", stream="AUDIT")
    assert await shop.dead() == []
    assert await shop.js.messages("KV_jetrunner", "$KV.jetrunner.start.>") == []


def all_gone(shop: Shop) -> bool:
    """Whether no handler that has begun may still run."""
    return not any(lives(each["pid"]) for each in shop.notes("run"))


def lives(pid: int) -> bool:
    """Whether there is a process of that id that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


DEATHS = {
    "exit": "os._exit(0)",
    "abort": "os.abort()",
    "segmentation-fault": "__import__('ctypes').string_at(1)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "exec": "os.execv('/bin/true', ['true'])",
    "thread": "await asyncio.to_thread(os.abort)",
}
OFTEN = {"exit", "segmentation-fault", "kill"}
"""The others end a process as one of these does."""


@pytest.mark.parametrize(
    "death",
    [pytest.param(each, marks=() if each in OFTEN else pytest.mark.thorough) for each in DEATHS],
)
async def test_what_kills_its_process_is_found_by_two_deaths_of_its_own_and_others_notice_nothing(
    shop: Shop, death: str
) -> None:
    process = await opened(shop, DEATHS[death])
    letter = await shop.dead_letter()
    assert (reason(letter), letter.headers["Jetrunner-Dead-Attempts"]) == ("crashed", "3")
    assert len(shop.notes("there")) == 2
    assert len({each["pid"] for each in shop.notes("there")} | {process.pid}) == 3
    await shop.settled("charge")
    assert process.running
    assert await shop.js.messages("KV_jetrunner", "$KV.jetrunner.start.>") == []


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_what_is_made_there_is_stored_and_acknowledged(shop: Shop, kind: str) -> None:
    process = await opened(shop, 'ctx.publish("audit.x", {"id": 7}, headers={"A": "b"})', kind)
    await shop.settled("charge")
    assert in_cell(shop, process)
    (paid,), (audit,) = await shop.js.messages("PAID"), await shop.js.messages("AUDIT")
    assert (paid.subject, paid.json()["id"], audit.headers["A"]) == ("paid.1", 1, "b")
    assert await shop.js.messages("KV_jetrunner", "$KV.jetrunner.start.>") == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('raise Reject("no")', ("rejected", "Reject", "no")),
        ('raise Wrong("so", 7)', ("rejected", "Wrong", "so")),
        (
            'raise type("Local", (Exception,), {})("x") if ctx.attempt > 8 else Reject("y")',
            ("rejected", "Reject", "y"),
        ),
        ("return {1: object()}", None),
        ("raise SystemExit(3)", None),
        ('raise Retry("later", after=500)', None),
        ('raise type("Local", (Exception,), {})("x")', None),
    ],
)
async def test_what_is_raised_there_counts_as_if_it_were_raised_here(
    shop: Shop, body: str, expected: tuple[str, str, str] | None
) -> None:
    process = await opened(shop, body)
    if expected is None:
        line = await process.seen(r"failed; retrying in")
        assert "functions/shop.py:" in line or "Retry" in line or "EncodeError" in line
    else:
        letter = await shop.dead_letter()
        found = [letter.headers[f"Jetrunner-Dead-{name}"] for name in ("Reason", "Error", "Message")]
        assert tuple(found) == expected
        assert "in charge" in letter.headers["Jetrunner-Dead-Traceback"]
    assert in_cell(shop, process)
    assert process.running


@pytest.mark.parametrize(
    ("kind", "body"), [("async def", "await asyncio.sleep(60)"), ("def", "time.sleep(60)")]
)
async def test_a_handler_that_takes_too_long_there_is_ended_with_its_process(
    shop: Shop, kind: str, body: str
) -> None:
    process = await opened(shop, body, kind, timeout=1.0)
    await process.seen(r"failed; retrying in .* TimeoutError")
    await eventually(lambda: all_gone(shop))
    assert process.running


async def test_no_handler_goes_on_there_once_the_process_beside_it_is_gone(shop: Shop) -> None:
    process = await opened(shop, "while True: pass", "def")
    (there,) = await shop.noted("there")
    process.kill()
    await eventually(lambda: not lives(there["pid"]))


async def test_a_stop_waits_for_what_runs_there(shop: Shop) -> None:
    process = await opened(shop, WAITS)
    await shop.noted("there")
    os.killpg(process.pid, signal.SIGTERM)
    await process.seen("draining")
    (shop.project.root / "open").touch()
    assert await process.ended() == 0
    await shop.settled("charge")  # the server counts acks a moment after they have come
    assert await shop.js.count("PAID") == 1


async def test_a_cell_that_is_killed_once_from_outside_convicts_nothing(shop: Shop) -> None:
    process = await opened(shop, WAITS)
    (there,) = await shop.noted("there")
    os.kill(there["pid"], signal.SIGKILL)
    await process.seen("died: SIGKILL")
    (shop.project.root / "open").touch()
    await shop.settled("charge")
    assert len(shop.notes("there")) == 2
    assert await shop.dead() == []


async def test_where_no_other_process_can_be_had_it_runs_alone(shop: Shop) -> None:
    """The lifespan holds what is there once: a killer is found all the same."""
    await shop.open("""
        import fcntl

        @lifespan
        async def state():
            with open("lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield

        @consume("orders.{id}")
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id)
            if order.note == "killer":
                os._exit(1)
    """)
    await shop.order(1, note="killer")
    for death in range(1, 5):
        process = shop.run()
        await process.ended()
        assert len(shop.notes("run")) == death
        assert (
            "no separate process can start for a message that may kill its process" in process.output
        ) is (death == 3)
        await shop.give_back("charge")
    shop.run()
    assert reason(await shop.dead_letter()) == "crashed"


async def test_the_order_of_a_key_holds_around_what_runs_there(shop: Shop) -> None:
    """What comes after it in its key waits for the verdict, and other keys do not."""
    await shop.open("""
        @consume("orders.{id}", ordered_by="id", output="paid.{id}")
        async def charge(order: Order) -> Order:
            note("run", id=order.id, what_for=order.note)
            if order.note == "killer":
                os.kill(os.getpid(), signal.SIGKILL)
            return order
    """)
    await shop.order(1, note="killer")
    for _ in range(3):  # a second delivery is a takeover's, and no reason to suspect it
        await shop.run().ended()
    await shop.order(1, note="next")
    await shop.order(2)
    process = shop.run()
    assert reason(await shop.dead_letter()) == "crashed"
    await eventually(lambda: paid(shop, 2))
    of_key = [each["what_for"] for each in shop.notes("run") if each["id"] == 1]
    assert of_key == ["killer"] * 5 + ["next"]
    assert process.running


async def paid(shop: Shop, count: int) -> bool:
    return await shop.js.count("PAID") == count


async def test_spans_that_are_made_there_nest_in_the_attempt_and_show_no_more_than_others(shop: Shop) -> None:
    shop.project.settings('redact = ["note"]')
    with Receiver() as receiver:
        shop.project.environment |= {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        await opened(
            shop,
            '__import__("opentelemetry.trace").trace.get_tracer("mine").start_span("mine", attributes={"of": order.note}).end()',
            note="a secret of 1234",
        )
        await shop.settled("charge")
        await eventually(lambda: [span for span in receiver.spans() if span.name == "mine"])
        (mine,) = [span for span in receiver.spans() if span.name == "mine"]
        await eventually(lambda: any(span.span_id == mine.parent_id for span in receiver.spans()))
        (attempt,) = [span for span in receiver.spans() if span.span_id == mine.parent_id]
        assert (attempt.name, attempt.trace_id, mine.service) == ("charge", mine.trace_id, attempt.service)
        assert mine.attributes["of"] == "[redacted]"
