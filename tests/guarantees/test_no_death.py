"""What looks like the death of a process and is none: a good message never ends as `crashed` for it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

STARTS = "$KV.jetrunner.start.>"
LONG = """
    @consume("orders.{id}", timeout=600.0, RETRY)
    async def charge(order: Order, ctx: Context) -> None:
        note("run", id=order.id, attempt=ctx.attempt)
        if FAILS and ctx.attempt == 1:
            raise ValueError("once more")
        while not os.path.exists("open"):
            await asyncio.sleep(0.01)
        note("done", id=order.id)
"""
UNORDERED = LONG.replace("RETRY", "concurrency=4").replace("FAILS", "False")
ORDERED = LONG.replace("RETRY", 'ordered_by="id", retry=RetryPolicy.fixed(0.05)').replace("FAILS", "True")
BESIDE = """
    @consume("orders.{id}", output="paid.{id}")
    async def charge(order: Order) -> Order:
        note("run", id=order.id)
        while not os.path.exists("open"):
            await asyncio.sleep(0.001)
        note("done", id=order.id)
        return order

    @consume("audit.{id}")
    async def kill(id: str) -> None:
        note("kill", id=id)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def let_go_on(shop: Shop) -> None:
    (shop.project.root / "open").touch()


async def stages(shop: Shop) -> list[int]:
    """The stages of all starts that stand on record."""
    found = await shop.js.messages("KV_jetrunner", STARTS)
    return sorted(each["stage"] for last in found for each in last.json()["starts"])


async def stand(shop: Shop, *expected: int) -> bool:
    return await stages(shop) == sorted(expected)


async def test_a_process_that_lost_its_connection_did_not_die(shop: Shop, nats_server: NatsServer) -> None:
    """Each time the message goes to another process, while its handler runs on behind a connection that is lost."""
    await shop.open(UNORDERED)
    await shop.order(1)
    async with AsyncExitStack() as stack:
        proxies: list[Proxy] = []
        for count in range(1, 5):
            proxies.append(await stack.enter_async_context(Proxy.to(nats_server.port)))
            shop.run(NATS_URL=proxies[-1].url)
            await shop.noted("run", count)
            await proxies[-1].cut(refuse=True)
            await shop.give_back("charge")
        last = shop.run()
        await shop.noted("run", 5)
        await eventually(lambda: stand(shop, 1, 2, 2, 2))
        for proxy in proxies:
            await proxy.mend()
        let_go_on(shop)
        await shop.settled("charge")
        assert await shop.dead() == []
        assert last.running


async def delivered(shop: Shop, stream: str, function: str, times: int) -> bool:
    info = await shop.js.consumer(stream, f"shop-{function}")
    return bool(info["delivered"]["consumer_seq"] == times)


async def test_a_process_that_lost_the_shard_did_not_die(shop: Shop) -> None:
    await shop.open(ORDERED)
    process = shop.run()
    await process.seen("owns 1 of 1 shard")
    await shop.order(1)
    await shop.noted("run", 2)
    for loss in range(1, 6):
        # Somebody takes it who is not alive: this process loses it, and takes it again.
        claim = {"owner": "ghost", "epoch": 50 * loss, "since": 0.0}
        await shop.js.publish("$KV.jetrunner.claim.shop.charge.0.0", claim)
        await shop.noted("run", 2 + loss)
    await eventually(lambda: process.output.count("another instance owns shard") == 5)
    assert {each["attempt"] for each in shop.notes("run")[1:]} == {2}
    await eventually(lambda: stand(shop, 1))
    let_go_on(shop)
    await shop.noted("done")
    await eventually(lambda: stand(shop))
    assert await shop.dead() == []


async def test_a_process_that_was_told_to_end_did_not_die_of_its_messages(shop: Shop) -> None:
    """However it ends: a deploy waits for a while, and kills."""
    await shop.open(UNORDERED)
    await shop.order(1)
    for deploy in range(1, 7):
        process = shop.run()
        await shop.noted("run", deploy)
        process.terminate()
        await process.seen("draining")
        await eventually(lambda: stand(shop))
        process.kill()
        await shop.give_back("charge")
    let_go_on(shop)
    shop.run()
    await shop.settled("charge")
    assert await shop.dead() == []


async def test_what_killed_its_process_under_the_number_of_a_message_is_not_held_against_it(
    shop: Shop,
) -> None:
    """The stream was deleted and made again: its messages have the old ones' numbers."""
    await shop.open(
        UNORDERED.replace(
            "while not", 'if order.note == "killer":\n            os.abort()\n        while not'
        )
    )
    await shop.order(1, note="killer")
    for _ in range(2):
        await shop.run().ended()
        await shop.give_back("charge")
    assert await stages(shop) == [1]
    starts = [{"instance": f"cell-{number}", "stage": 2, "seen": True} for number in range(2)]
    record = {"stored": nanoseconds((await shop.js.message("ORDERS", 1)).time), "starts": starts}
    await shop.js.publish("$KV.jetrunner.start.shop.charge.ORDERS.1", record)
    await shop.js.api("STREAM.DELETE.ORDERS")
    await shop.js.create("ORDERS", ["orders.>"], allow_direct=True)
    await shop.order(1)
    process = shop.run()
    await shop.noted("run", 3)
    process.kill()
    await shop.give_back("charge")
    shop.run()
    await shop.noted("run", 4)
    await eventually(lambda: stand(shop, 1))
    let_go_on(shop)
    await shop.settled("charge")
    assert await shop.dead() == []
    await eventually(lambda: stand(shop))


@pytest.mark.parametrize(
    "value", ["3", "7", "9" * 5000, "{", "[1, 2]"], ids=["old", "7", "long", "cut", "list"]
)
async def test_what_is_no_record_of_ours_is_not_held_against_a_message(shop: Shop, value: str) -> None:
    await shop.open(UNORDERED)
    await shop.order(1)
    process = shop.run()
    await shop.noted("run")
    process.kill()
    await shop.js.publish("$KV.jetrunner.start.shop.charge.ORDERS.1", value)
    await shop.give_back("charge")
    shop.run()
    await shop.noted("run", 2)
    let_go_on(shop)
    await shop.settled("charge")
    assert await shop.dead() == []
    await eventually(lambda: stand(shop))


async def test_what_ran_alone_is_not_blamed_for_what_comes_after_it(shop: Shop) -> None:
    """The next message kills the process at once, before anything was said of the one that ran alone."""
    await shop.open(BESIDE)
    await shop.order(1)
    process = shop.run()
    await shop.noted("run")
    stored = (await shop.js.message("ORDERS", 1)).time
    process.kill()
    starts = [{"instance": "gone-1", "stage": 1}, {"instance": "gone-2", "stage": 3}]
    record = {"stored": nanoseconds(stored), "starts": starts}
    await shop.js.publish("$KV.jetrunner.start.shop.charge.ORDERS.1", record)
    await shop.give_back("charge")
    process = shop.run()
    await shop.noted("run", 2)
    await shop.js.publish("audit.1")
    await eventually(lambda: delivered(shop, "AUDIT", "kill", 1))
    let_go_on(shop)
    await process.ended()
    assert len(shop.notes("kill")) == 1
    shop.write(BESIDE.replace("os.kill(", "print("))
    await shop.give_back("charge")
    shop.run()
    await shop.settled("charge")
    assert await shop.dead() == []


def nanoseconds(stored: str) -> int:
    whole, _, rest = stored.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(rest.ljust(9, "0"))
