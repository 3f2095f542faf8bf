"""`executor="process"` beside what else happens to a process: signals of its group, forks, deaths while idle, large outputs."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    @consume("orders.{id}", output="paid.{id}", executor="process", concurrency=2, timeout=20.0,
             retry=RetryPolicy.fixed(0.05, attempts=3))
    def charge(order: Order, id: int, ctx: Context) -> dict:
        note("run", id=order.id, pid=os.getpid(), attempt=ctx.attempt)
        match order.note:
            case "exit":
                os._exit(0)
            case "slow":
                while not os.path.exists("go"):
                    time.sleep(0.02)
            case "fork":
                pid = os.fork()
                if not pid:
                    time.sleep(0.5)
                    os._exit(0)
                note("forked", pid=pid)
            case "thread":
                threading.Thread(target=time.sleep, args=(0.5,)).start()
            case "large":
                for n in range(50):
                    ctx.publish(f"audit.{n}", "x" * 900_000)
            case "print":
                print("said on stdout", flush=True)
                import logging
                logging.getLogger("shop").warning("said in the log")
                ctx.log.warning("said by ctx.log")
        return {"id": order.id}
"""


async def stored(shop: Shop, stream: str = "PAID") -> list[int]:
    return sorted(each.json()["id"] for each in await shop.js.messages(stream))


async def test_a_process_that_ends_without_an_error_has_died_with_its_message(shop: Shop) -> None:
    await shop.open(CHARGE)
    process = await shop.running("charge")
    await shop.order(1, note="exit")
    await shop.order(2)
    assert reason(await shop.dead_letter()) == "crashed"
    await shop.settled("charge")
    assert await stored(shop) == [2]
    assert process.running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_whole_group_lets_the_handler_finish(shop: Shop, number: int) -> None:
    await shop.open(CHARGE)
    process = await shop.running("charge")
    await shop.order(1, note="slow")
    (run,) = await shop.noted("run")
    for pid in (run["pid"], process.pid):
        os.kill(pid, number)
    await process.seen("rain")
    (shop.project.root / "go").touch()
    assert await process.ended() == 0
    assert await stored(shop) == [1]
    assert len(shop.notes("run")) == 1


@pytest.mark.parametrize("note", ["fork", "thread", "large", "print"])
async def test_a_handler_may_fork_start_threads_make_much_and_print(shop: Shop, note: str) -> None:
    await shop.open(CHARGE)
    process = await shop.running("charge")
    await shop.order(1, note=note)
    await shop.order(2)
    await shop.settled("charge", within=60)
    assert await stored(shop) == [1, 2]
    if note == "large":
        assert await shop.js.count("AUDIT") == 50
    process.terminate()
    assert await process.ended() == 0
    if note == "print":
        for each in ("said on stdout", "said in the log", "said by ctx.log"):
            assert each in process.output


async def test_a_process_that_is_killed_while_it_waits_costs_no_message_an_attempt(shop: Shop) -> None:
    await shop.open(CHARGE.replace("attempts=3", "attempts=1"))
    await shop.running("charge")
    await shop.order(1)
    (run,) = await shop.noted("run")
    await shop.settled("charge")
    os.kill(run["pid"], signal.SIGSTOP)  # it takes no message
    await shop.order(2)
    await eventually(lambda: shop.in_work("charge"))
    os.kill(run["pid"], signal.SIGKILL)
    await shop.settled("charge")
    assert await stored(shop) == [1, 2]
    assert await shop.dead() == []


async def test_two_workers_keep_order_in_processes(shop: Shop) -> None:
    await shop.open(CHARGE.replace("concurrency=2, ", 'ordered_by="id", '))
    process = shop.run("--workers", "2")
    await shop.order(*range(6), *range(6))
    await shop.noted("run", 12)
    await eventually(partial(_all, shop))
    process.terminate()
    assert await process.ended() == 0


async def _all(shop: Shop) -> bool:
    return await stored(shop) == sorted([*range(6), *range(6)])


BROKEN = """
    @lifespan
    async def opened():
        if "--cell" in sys.orig_argv and not os.path.exists("card"):
            raise OSError("no such card")
        yield
"""


async def test_where_the_lifespan_fails_in_a_process_of_a_handler_its_messages_wait(shop: Shop) -> None:
    await shop.open(BROKEN + CHARGE)
    process = await shop.running("charge")
    await shop.order(1)
    await process.seen("no such card")
    (shop.project.root / "card").touch()
    await shop.settled("charge")
    assert await stored(shop) == [1]
    assert await shop.dead() == []
