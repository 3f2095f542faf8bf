"""SIGTERM hands over: what runs finishes, what has not started goes to another instance at once, nothing is redelivered."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest
from nats.aio.msg import Msg

from tests.cli.test_run import pending
from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.proxy import Proxy
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

ASYNC = """
    @consume("orders.{id}", concurrency=2, timeout=60)
    async def charge(order: Order, ctx: Context) -> None:
        note("start", id=order.id, attempt=ctx.attempt)
        while not os.path.exists("open"):
            await asyncio.sleep(0.01)
        note("done", id=order.id)
"""
THREAD = """
    @consume("orders.{id}", concurrency=2, timeout=60)
    def charge(order: Order, ctx: Context) -> None:
        note("start", id=order.id, attempt=ctx.attempt)
        while not os.path.exists("open"):
            time.sleep(0.01)
        note("done", id=order.id)
"""


@pytest.mark.parametrize("source", [ASYNC, THREAD], ids=["async", "thread"])
async def test_what_runs_finishes_and_is_acknowledged_before_the_process_ends(
    shop: Shop, source: str
) -> None:
    await shop.open(source)
    process = await shop.running("charge")
    await shop.order(*range(6))
    await shop.noted("start", 2)
    process.terminate()
    await process.seen("drain")
    (shop.project.root / "open").touch()
    assert await process.ended() == 0
    done = {each["id"] for each in shop.notes("done")}
    # Those that have been delivered may begin within 0.5 s, where the two have made room.
    assert {0, 1} <= done == {each["id"] for each in shop.notes("start")}

    async def counted() -> bool:  # the server counts acks a moment after they have come
        info = await shop.js.consumer("ORDERS", "shop-charge")
        return (info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (
            len(done),
            info["num_redelivered"],
        )

    await eventually(counted)


class Answers:
    """What the server is told of the deliveries to a function: of one that it is told nothing of, it makes another after ten seconds.

    When a message comes again tells nothing: a busy machine may add as much as that.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._answered: set[int] = set()

    @classmethod
    async def of(cls, shop: Shop) -> Answers:
        """Those from now on."""
        answers = cls(shop)
        await shop.js.client.subscribe("$JS.ACK.ORDERS.shop-charge.>", cb=answers._hear)
        await shop.js.client.flush()
        return answers

    async def _hear(self, message: Msg) -> None:
        if not message.data.startswith(b"+WPI"):
            self._answered.add(int(message.subject.split(".")[6]))

    async def are_whole(self) -> bool:
        """Whether each delivery so far has its answer."""
        info = await self._shop.js.consumer("ORDERS", "shop-charge")
        return self._answered == set(range(1, info["delivered"]["consumer_seq"] + 1))


async def test_what_has_not_started_is_given_back_and_runs_elsewhere(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", concurrency=8)
        async def charge(order: Order, ctx: Context) -> None:
            note("start", id=order.id)
            if order.note == "block":
                time.sleep(0.8)  # the loop: what has arrived meanwhile cannot start
            await asyncio.sleep(0.01)
            note("done", id=order.id)
    """)
    answers = await Answers.of(shop)
    process = await shop.running("charge")
    await shop.order(0, note="block")
    await shop.noted("start")
    await shop.order(*range(1, 40))
    process.terminate()
    shop.run()
    await shop.noted("done", 40)
    await process.ended()
    await shop.settled("charge")
    runs = [each["id"] for each in shop.notes("start")]
    assert sorted(runs) == list(range(40))
    await eventually(answers.are_whole)


async def test_a_stop_under_load_redelivers_nothing_late(shop: Shop) -> None:
    """Stopped again and again with messages on their way: each has run, or was given back."""
    await shop.open("""
        @consume("orders.{id}", concurrency=64)
        async def charge(order: Order) -> None:
            await asyncio.sleep(0.002)
            note("done", id=order.id)

        @lifespan
        async def life():
            note("up")
            yield
    """)
    published = 0
    stop = asyncio.Event()

    async def flood() -> None:
        nonlocal published
        while not stop.is_set():
            for _ in range(50):
                await shop.js.client.publish(f"orders.{published}", b'{"id":%d}' % published)
                published += 1
            await asyncio.sleep(0.02)

    async def start() -> RunnerProcess:
        count = len(shop.notes("up"))
        process = shop.run()
        await shop.noted("up", count + 1)
        return process

    answers = await Answers.of(shop)
    process, stays = await start(), await start()
    flooding = asyncio.create_task(flood())
    for _ in range(3):
        await shop.noted("done", len(shop.notes("done")) + 500)
        process.terminate()
        assert await process.ended() == 0
        process = await start()
    stop.set()
    await flooding
    await shop.noted("done", published)
    await shop.settled("charge")
    assert sorted(each["id"] for each in shop.notes("done")) == list(range(published))
    await eventually(answers.are_whole)
    assert stays.running


async def acked(shop: Shop) -> bool:
    return await shop.in_work("charge") == 0


async def test_what_a_fast_function_has_here_is_worked_off_and_counts_no_delivery(shop: Shop) -> None:
    """One that is given back has its second delivery, without a first attempt."""
    await shop.open("""
        from runner.consumers import functiondurables
        from runner.pipeline import deadlines

        functiondurables.WORK_OFF_SECONDS = 20  # a busy machine gives back what it has not worked off in 0.5 s
        deadlines.HOARDED_SECONDS = 20  # or what has waited for a second
        count = 0

        @consume("orders.{id}", concurrency=4)
        async def charge(order: Order, ctx: Context) -> None:
            global count
            count += 1
            if ctx.attempt > 1:
                note("again", id=order.id)
            if count % 1_000 == 0:
                note("thousand")
    """)
    for number in range(40_000):
        await shop.js.client.publish(f"orders.{number}", b'{"id":%d}' % number)
    await shop.js.client.flush()
    process = shop.run()
    for thousands in (3, 8, 13):
        await shop.noted("thousand", thousands)
        process.terminate()
        assert await process.ended() == 0
        await eventually(partial(acked, shop))  # the server counts acks a moment after they have come
        info = await shop.js.consumer("ORDERS", "shop-charge")
        assert info["num_redelivered"] == 0, thousands
        assert info["num_pending"] > 0, "it was stopped while it was fast"
        process = shop.run()
    await shop.settled("charge", within=60)
    assert shop.notes("again") == []


async def test_a_second_sigterm_cancels_what_runs_and_gives_it_back(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", concurrency=4, timeout=60)
        async def charge(order: Order, ctx: Context) -> None:
            note("start", id=order.id, pid=os.getpid())
            if ctx.attempt == 1:
                try:
                    await asyncio.sleep(50)
                finally:
                    note("cancelled", id=order.id)
    """)
    answers = await Answers.of(shop)
    process = await shop.running("charge")
    await shop.order(*range(4))
    await shop.noted("start", 4)
    process.terminate()
    await process.seen("drain")
    process.terminate()
    assert await process.ended(within=60) == 0
    assert len(shop.notes("cancelled")) == 4
    await eventually(answers.are_whole)
    shop.run()
    await shop.settled("charge")
    assert await shop.dead() == []


async def test_a_second_sigterm_ends_the_process_soon_without_a_server_too(
    shop: Shop, nats_server: NatsServer
) -> None:
    await shop.open("""
        @consume("orders.{id}", timeout=60, retry=RetryPolicy.fixed(0))
        async def charge(order: Order, ctx: Context) -> None:
            note("start", attempt=ctx.attempt)
            if ctx.attempt == 1:
                raise ValueError("from now on its starts are recorded")
            await asyncio.sleep(60)
    """)
    process = await shop.running("charge")
    await shop.order(1)
    await shop.noted("start", 2)
    await asyncio.to_thread(nats_server.kill)
    process.terminate()
    await process.seen("drain")
    process.terminate()
    async with asyncio.timeout(45):
        assert await process.ended() == 0


async def test_a_third_sigterm_ends_the_process_at_once(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", timeout=600)
        async def charge(order: Order) -> None:
            note("start")
            while True:
                try:
                    await asyncio.sleep(50)
                except asyncio.CancelledError:
                    note("ignored")
    """)
    process = await shop.running("charge")
    await shop.order(1)
    await shop.noted("start")
    for _ in range(3):
        if process.running:
            process.terminate()
        # Signals that arrive together would count as one.
        await eventually(lambda: pending(process.pid) == 0 or not process.running)
    assert await process.ended(within=60) != 1


async def test_code_that_will_not_end_does_not_keep_the_process(shop: Shop) -> None:
    await shop.open("""
        async def stubborn(kind: str) -> None:
            note(kind)
            while True:
                try:
                    await asyncio.sleep(50)
                except asyncio.CancelledError:
                    pass

        @consume("orders.loop", timeout=600)
        async def in_loop(order: Order, ctx: Context) -> None:
            await stubborn("start") if ctx.attempt == 1 else note("again")

        @consume("orders.thread", timeout=600)
        def in_thread(order: Order, ctx: Context) -> None:
            note("start" if ctx.attempt == 1 else "again")
            time.sleep(600 if ctx.attempt == 1 else 0)

        @consume("orders.task")
        async def charge(order: Order) -> None:
            asyncio.create_task(stubborn("start"))
    """)
    process = await shop.running("charge", "--drain-timeout", "0.2")
    given_back: set[str] = set()

    async def listen(message: Msg) -> None:
        if message.data.startswith(b"-NAK"):
            given_back.add(message.subject.split(".")[3])

    await shop.js.client.subscribe("$JS.ACK.ORDERS.>", cb=listen)
    for kind in ("loop", "thread", "task"):
        await shop.js.publish(f"orders.{kind}", {"id": 1})
    await shop.noted("start", 3)
    process.terminate()
    assert await process.ended(within=60) == 0
    # Its end takes seconds, after which the ack waits are over soon: when they come again tells nothing.
    await eventually(lambda: given_back == {"shop-in_loop", "shop-in_thread"})
    shop.run()
    await shop.noted("again", 2)
    for function in ("in_loop", "in_thread", "charge"):
        await shop.settled(function)
    assert await shop.dead() == []


@pytest.mark.parametrize("hurry", [False, True], ids=["drain-timeout", "second-sigterm"])
async def test_what_handlers_use_stays_open_until_those_that_were_cancelled_have_ended(
    shop: Shop, hurry: bool
) -> None:
    await shop.open("""
        class Client:
            open = True

        @lifespan
        async def life():
            client = Client()
            yield client
            client.open = False

        @consume("orders.{id}", concurrency=4, timeout=60)
        async def charge(order: Order, ctx: Context) -> None:
            note("start", id=order.id)
            try:
                await asyncio.sleep(50 if ctx.attempt == 1 else 0)
            finally:
                await asyncio.sleep(0.3)  # a rollback over the network
                note("end", id=order.id, open=ctx.state.open)
    """)
    answers = await Answers.of(shop)
    process = await shop.running("charge", "--drain-timeout", "60" if hurry else "0.2")
    await shop.order(*range(4))
    await shop.noted("start", 4)
    process.terminate()
    if hurry:
        await process.seen("drain")
        process.terminate()
    assert await process.ended(within=60) == 0
    assert sorted((each["id"], each["open"]) for each in shop.notes("end")) == [
        (number, True) for number in range(4)
    ]
    assert "ignore" not in process.output
    await eventually(answers.are_whole)
    shop.run()
    await shop.settled("charge")
    assert await shop.dead() == []


async def test_a_hundred_functions_far_from_their_server_end_within_the_drains_time(
    shop: Shop, nats_server: NatsServer
) -> None:
    """50 ms each way: closing one pull takes 0.2 s, and there are two for each function."""
    await shop.open("""
        def bound(number):
            @consume(f"orders.{number}", name=f"f{number}")
            async def handler(body: bytes) -> None:
                note("start", number=number)
                await asyncio.sleep(60)

            globals()[f"f{number}"] = handler

        for number in range(100):
            bound(number)
    """)
    async with Proxy.to(nats_server.port) as proxy:
        process = shop.run("--nats-url", proxy.url, "--drain-timeout", "1")
        await process.seen("ready: ", within=60)
        await shop.order(7)
        await shop.noted("start")
        proxy.delay(0.05)
        stopped = time.monotonic()
        process.terminate()
        await process.seen("cancelling what still runs: 1", within=60)
        assert time.monotonic() - stopped < 20
        assert await process.ended(within=60) == 0
        assert time.monotonic() - stopped < 30  # one by one: forty
