"""Whatever a handler does, it hurts its own message alone: the runner goes on, with every slot it had."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SIGNATURES = {"straight": "order: Order", "whole": "order: Order, ctx: Context"}


@pytest.fixture
def shop(nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]) -> Shop:
    return Shop(js, nats_server.url, make_project)


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_a_handler_that_raises_anything_at_all_fails_alone(
    shop: Shop, kind: str, signature: str
) -> None:
    await shop.open(f"""
        class Own(BaseException): ...

        class Mute(Exception):
            def __str__(self): raise RuntimeError("no words")

        class Loud(Exception):
            def __str__(self): return "line\\r\\n\\x00\\ud800 " + "x" * 50_000

        RAISED = [
            Own("own"), SystemExit(3), SystemExit("bye"), KeyboardInterrupt(), GeneratorExit(), StopIteration(1),
            StopAsyncIteration(), asyncio.CancelledError(), ExceptionGroup("two", [OSError(), ValueError()]),
            RecursionError(), MemoryError(), TimeoutError("mine"), Mute(), Loud(),
        ]

        @consume("orders.{{id}}", concurrency=2, retry=RetryPolicy.fixed(0, attempts=2))
        {kind} charge({signature}) -> None:
            note("run", id=order.id)
            if order.id < len(RAISED):
                raise RAISED[order.id]
            if order.id == 100:
                sys.exit("over")
            if order.id == 101:
                os.close(999_999)
    """)
    process = await shop.running("charge")
    failing = [*range(14), 100, 101]
    for number in failing:
        await shop.order(number, 1000 + number)
    await shop.dead_letter(len(failing))
    await shop.settled("charge")
    letters = {letter.json()["id"]: letter for letter in await shop.dead()}
    assert sorted(letters) == failing
    assert {reason(letter) for letter in letters.values()} == {"exhausted"}
    runs = [each["id"] for each in shop.notes("run")]
    assert sorted(runs) == sorted([*failing, *failing, *(1000 + number for number in failing)])
    assert letters[0].headers["Jetrunner-Dead-Error"] == "Own"
    assert letters[100].headers["Jetrunner-Dead-Error"] == "SystemExit"
    assert letters[101].headers["Jetrunner-Dead-Error"] == "OSError"
    assert process.running


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
async def test_a_handler_that_cancels_its_own_task_hurts_no_neighbour_and_loses_no_slot(
    shop: Shop, signature: str
) -> None:
    await shop.open(f"""
        @consume("orders.{{id}}", concurrency=1, retry=RetryPolicy.fixed(0, attempts=2))
        async def charge({signature}) -> None:
            note(order.note, id=order.id)
            task = asyncio.current_task()
            match order.note:
                case "now":
                    task.cancel()
                    await asyncio.sleep(0)
                case "later":
                    task.cancel()
                case "fails":
                    task.cancel()
                    raise ValueError("and fails")
                case "much later":
                    asyncio.get_running_loop().call_later(0.05, task.cancel)
                case "swallowed":
                    task.cancel()
                    try:
                        await asyncio.sleep(1)
                    except asyncio.CancelledError:
                        pass
                case "innocent":
                    pass
    """)
    process = await shop.running("charge")
    number = 0
    for what in ("now", "later", "fails", "swallowed"):
        for _ in range(3):
            number += 1
            await shop.order(number, note=what)
            await shop.order(1000 + number, note="innocent")
    await shop.settled("charge")
    await shop.order(500, note="much later")
    await shop.settled("charge")
    assert len(shop.notes("later")) == len(shop.notes("swallowed")) == 3
    assert len(shop.notes("now")) == len(shop.notes("fails")) == 6
    assert len(shop.notes("innocent")) == 12
    dead = sorted(letter.json()["note"] for letter in await shop.dead())
    assert dead == ["fails"] * 3 + ["now"] * 3
    await shop.order(501, note="last")
    await shop.noted("last")
    await shop.settled("charge")
    assert process.running


@pytest.mark.parametrize("kind", ["async", "straight", "thread"])
async def test_a_handler_that_never_ends_is_timed_out_and_its_neighbours_run(shop: Shop, kind: str) -> None:
    signature = "order: Order" if kind == "straight" else "order: Order, ctx: Context"
    handler = (
        f"""
        def charge({signature}) -> None:
            note("run", id=order.id)
            if order.note == "hang":
                time.sleep(600)
        """
        if kind == "thread"
        else f"""
        async def charge({signature}) -> None:
            note("run", id=order.id)
            if order.note == "hang":
                await asyncio.Event().wait()
        """
    )
    await shop.open(
        f"""
        @consume("orders.{{id}}", concurrency=2, timeout=0.3, retry=RetryPolicy(attempts=1))
        {handler.strip()}
        """
    )
    process = await shop.running("charge")
    await shop.order(1, note="hang")
    await shop.order(*range(2, 22))
    assert reason(await shop.dead_letter()) == "timeout"
    await shop.settled("charge")
    assert len(shop.notes("run")) == 21
    assert process.running
    if kind == "thread":
        assert "holds its slot" in process.output


async def test_a_handler_that_swallows_its_cancellation_keeps_its_slot_until_it_ends(shop: Shop) -> None:
    await shop.open("""
        running = 0

        @consume("orders.{id}", concurrency=2, timeout=0.3, retry=RetryPolicy(attempts=1))
        async def charge(order: Order) -> None:
            global running
            running += 1
            note("run", id=order.id, running=running)
            while order.note == "hang" and not os.path.exists("open"):
                try:
                    await asyncio.sleep(0.02)
                except asyncio.CancelledError:
                    note("cancelled")
            try:
                await asyncio.sleep(0.01)
            finally:  # the others are late, too, where the process stands still
                running -= 1
            note("end", id=order.id)
    """)
    process = await shop.running("charge")
    await shop.order(1, note="hang")
    assert reason(await shop.dead_letter()) == "timeout"
    await shop.settled("charge")
    await shop.order(*range(10, 20))
    await shop.settled("charge")
    assert max(each["running"] for each in shop.notes("run")) == 2
    (shop.project.root / "open").touch()
    await process.seen("has ended")
    await shop.order(*range(20, 40))
    await shop.settled("charge")
    # Both slots work again, and what came too late changed nothing.
    assert max(each["running"] for each in shop.notes("run")[-20:]) == 2
    assert [each.json()["id"] for each in await shop.dead()].count(1) == 1
    assert len(shop.notes("cancelled")) == 1


async def test_a_handler_that_finishes_after_its_deadline_counts_as_timed_out(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", output="paid.{id}", timeout=0.3, retry=RetryPolicy.fixed(0, attempts=9))
        def charge(order: Order, ctx: Context) -> Order:
            note("run", attempt=ctx.attempt)
            ctx.publish("audit.x", ctx.attempt)
            if ctx.attempt == 1:
                time.sleep(0.7)
            return order
    """)
    await shop.order(1)
    shop.run()
    await shop.settled("charge")
    attempts = [each["attempt"] for each in shop.notes("run")]
    assert attempts == [*range(1, len(attempts) + 1)]
    assert attempts[-1] > 1
    assert [each.json() for each in await shop.js.messages("AUDIT")] == [attempts[-1]]
    assert await shop.js.count("PAID") == 1


async def test_a_handler_that_blocks_the_loop_is_named_and_the_others_recover(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.block")
        async def block(order: Order) -> None:
            note("blocking")
            time.sleep(2.5)

        @consume("orders.other.{id}", timeout=2.0, retry=RetryPolicy(attempts=1))
        async def other(order: Order) -> None:
            note("start", id=order.id)
            await asyncio.sleep(0.02)
            note("done", id=order.id)
    """)
    process = await shop.running("block")
    source = (shop.project.root / "functions" / "shop.py").read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if "time.sleep(2.5)" in text)
    await shop.js.publish("orders.block", {"id": 1})
    await shop.noted("blocking")
    for number in range(10):
        await shop.js.publish(f"orders.other.{number}", {"id": number})
    await process.seen(rf"blocked by block at .*functions/shop\.py:{line}\b")
    await shop.settled("block")
    await shop.settled("other")
    assert len(shop.notes("done")) == len(shop.notes("start")) == 10
    assert await shop.dead() == []


async def test_a_handler_that_leaks_tasks_leaves_them_to_themselves(shop: Shop) -> None:
    await shop.open("""
        async def leaked(ctx: Context, what: str) -> None:
            await asyncio.sleep(0.05)
            try:
                ctx.publish("paid.late", 1)
            except RuntimeError:
                note("refused")
            if what == "fails":
                raise ValueError("nobody is there to hear it")
            await asyncio.Event().wait()

        @consume("orders.{id}", concurrency=1, output="paid.{id}")
        async def charge(order: Order, ctx: Context) -> Order:
            asyncio.create_task(leaked(ctx, order.note))
            return order
    """)
    process = await shop.running("charge")
    await shop.order(1, note="fails")
    await shop.order(2, note="waits")
    await shop.noted("refused", 2)
    await shop.order(3)
    await shop.settled("charge")
    assert [each.subject for each in await shop.js.messages("PAID")] == ["paid.1", "paid.2", "paid.3"]
    process.terminate()
    assert await process.ended(within=60) == 0


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
async def test_what_cannot_be_encoded_or_sent_fails_its_handler_and_nothing_is_published(
    shop: Shop, signature: str
) -> None:
    await shop.open(f"""
        @consume("orders.{{id}}", output="paid.{{id}}", retry=RetryPolicy.fixed(0, attempts=2))
        async def charge({signature}):
            note("run", id=order.id)
            return [object(), {{1: {{2}}, "x": lambda: 0}}, "x" * 2_000_000, order][order.id]
    """)
    process = await shop.running("charge")
    await shop.order(0, 1, 2, 3)
    await shop.dead_letter(3)
    await shop.settled("charge")
    letters = {letter.json()["id"]: letter for letter in await shop.dead()}
    assert {number: reason(letter) for number, letter in letters.items()} == {
        0: "exhausted",
        1: "exhausted",
        2: "exhausted",
    }
    assert letters[0].headers["Jetrunner-Dead-Error"] == "EncodeError"
    assert letters[2].headers["Jetrunner-Dead-Error"] == "TooLarge"
    assert [each.subject for each in await shop.js.messages("PAID")] == ["paid.3"]
    assert process.running


async def test_an_output_subject_made_from_data_is_checked_where_the_handler_publishes(shop: Shop) -> None:
    bad = ["a b", "a\r\nPUB paid.x 1", "a..b", "*", ">", "", "x.", ".x", "tab\there", "nul\x00", "x" * 5000]
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy(attempts=1))
        async def charge(order: Order, ctx: Context) -> None:
            await ctx.publish("paid.first", 1)
            await ctx.publish(f"paid.{order.note}", order)

        @consume("orders.{id}")
        async def headers(order: Order, ctx: Context) -> None:
            try:
                ctx.publish("audit.x", 1, headers={"X": order.note})
            except ValueError:
                note("refused", id=order.id)
    """)
    process = await shop.running("charge")
    for number, text in enumerate(bad):
        await shop.order(number, note=text)
    await shop.order(100, note="fine")
    await shop.order(101, note="grüße")
    await shop.dead_letter(len(bad))
    for function in ("charge", "headers"):
        await shop.settled(function)
    letters = await shop.js.messages("DEADLETTERS", "deadletters.shop.charge")
    assert {letter.headers["Jetrunner-Dead-Error"] for letter in letters} == {"ValueError"}
    subjects = [each.subject for each in await shop.js.messages("PAID")]
    assert sorted(subjects) == ["paid.fine", "paid.first", "paid.first", "paid.grüße"]
    assert [each["id"] for each in shop.notes("refused")] == [1]
    assert process.running


async def test_a_publish_to_where_no_stream_is_is_the_handlers_failure(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", output="paid.{id}", retry=RetryPolicy(attempts=1))
        async def charge(order: Order, ctx: Context) -> Order:
            await ctx.publish("nowhere.at.all", 1)
            return order
    """)
    process = await shop.running("charge")
    await shop.order(1)
    letter = await shop.dead_letter()
    assert (reason(letter), letter.headers["Jetrunner-Dead-Error"]) == ("exhausted", "NoStream")
    assert "nowhere.at.all" in letter.headers["Jetrunner-Dead-Message"]
    assert await shop.js.count("PAID") == 0
    assert process.running


async def test_a_request_over_max_payload_fails_its_handler_and_the_connection_survives(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy.fixed(0, attempts=2))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id)
            if order.id == 1:
                await ctx.request("quotes", b"x" * 1_100_000)
    """)
    process = await shop.running("charge")
    await shop.order(1)
    letter = await shop.dead_letter()
    assert (reason(letter), letter.headers["Jetrunner-Dead-Error"]) == ("exhausted", "TooLarge")
    await shop.order(2)
    await shop.settled("charge")
    assert process.running
    assert {each["pid"] for each in shop.notes("run")} == {process.pid}
    assert "lost" not in process.output
