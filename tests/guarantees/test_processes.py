"""`executor="process"`: a handler has a process of its own; what ends that process is the end of one message alone."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    @lifespan
    async def opened():
        note("opened", pid=os.getpid())
        yield {"fee": 3}
        note("closed", pid=os.getpid())

    @consume("orders.{id}", output="paid.{id}", executor="process", concurrency=2, timeout=60.0,
             retry=RetryPolicy.fixed(0.05, attempts=3))
    def charge(order: Order, id: int, ctx: Context) -> dict:
        note("run", id=order.id, pid=os.getpid(), attempt=ctx.attempt, fee=ctx.state["fee"])
        ctx.publish(f"audit.{id}", {"id": order.id})
        match order.note:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                sys.exit(3)
            case "spin":
                while True:
                    pass
            case "fail":
                raise type("Odd", (Exception,), {"__reduce__": lambda self: (open, ("no",))})("cannot be pickled")
            case "reject":
                raise Reject("nothing to charge")
        return {"id": order.id}
"""
ASYNC = """
    @consume("orders.{id}", output="paid.{id}", executor="process")
    async def charge(order: Order) -> int:
        note("run", pid=os.getpid())
        return order.id

    @consume("audit.{id}", output="lines.{id}", executor="process")
    async def split(order: Order):
        for number in range(order.id):
            yield number
"""


async def started(shop: Shop) -> RunnerProcess:
    return await shop.running("charge")


async def stored(shop: Shop, stream: str = "PAID") -> list[int]:
    return sorted(each.json()["id"] for each in await shop.js.messages(stream))


async def test_handlers_run_in_other_processes_with_a_lifespan_of_their_own(shop: Shop) -> None:
    await shop.open(CHARGE)
    process = await started(shop)
    await shop.order(*range(20))
    await shop.settled("charge")
    assert await stored(shop) == [*range(20)]
    assert await stored(shop, "AUDIT") == [*range(20)]
    pids = {each["pid"] for each in shop.notes("run")}
    assert process.pid not in pids
    assert 1 <= len(pids) <= 2
    assert {each["fee"] for each in shop.notes("run")} == {3}
    process.terminate()
    assert await process.ended() == 0
    assert {each["pid"] for each in shop.notes("closed")} == pids | {process.pid}


async def test_a_message_that_kills_its_process_is_crashed_after_two_deaths_and_the_others_go_on(
    shop: Shop,
) -> None:
    await shop.open(CHARGE)
    process = await started(shop)
    await shop.order(1, 2, 3)
    await shop.order(4, note="kill")
    await shop.order(5, 6, 7)
    letter = await shop.dead_letter()
    await shop.settled("charge")
    assert (reason(letter), letter.json()["id"]) == ("crashed", 4)
    assert await stored(shop) == [1, 2, 3, 5, 6, 7]
    assert len([each for each in shop.notes("run") if each["id"] == 4]) == 2
    assert await stored(shop, "AUDIT") == [1, 2, 3, 5, 6, 7], "what it has published is not sent"
    assert process.running


async def test_a_handler_that_takes_too_long_is_ended_with_its_process(shop: Shop) -> None:
    await shop.open(CHARGE.replace("timeout=60.0", "timeout=2.0"))
    process = await started(shop)
    await shop.order(1, note="spin")
    await shop.order(2)
    letter = await shop.dead_letter(within=60)
    assert reason(letter) == "timeout"
    await shop.settled("charge")
    assert await stored(shop) == [2]
    assert process.running


@pytest.mark.parametrize(
    ("note", "why"), [("exit", "exhausted"), ("fail", "exhausted"), ("reject", "rejected")]
)
async def test_what_a_handler_raises_comes_back_whether_it_can_be_pickled_or_not(
    shop: Shop, note: str, why: str
) -> None:
    await shop.open(CHARGE)
    process = await started(shop)
    await shop.order(1, note=note)
    letter = await shop.dead_letter()
    assert reason(letter) == why
    if note == "fail":
        assert letter.headers["Jetrunner-Dead-Error"] == "Odd"
        assert "cannot be pickled" in letter.headers["Jetrunner-Dead-Message"]
    assert process.running


async def test_coroutines_and_generators_run_there_too(shop: Shop) -> None:
    await shop.open(ASYNC)
    await shop.js.create("LINES", ["lines.>"], allow_atomic=True, allow_direct=True)
    process = await started(shop)
    await shop.order(1, 2)
    await shop.js.publish("audit.1", {"id": 3})
    await shop.settled("charge")
    await eventually(lambda: shop.js.count("LINES"))
    assert [each.body for each in await shop.js.messages("LINES")] == [b"0", b"1", b"2"]
    assert process.pid not in {each["pid"] for each in shop.notes("run")}


async def test_a_runner_that_is_killed_takes_its_children_along_and_blames_no_message(shop: Shop) -> None:
    await shop.open(CHARGE.replace('case "spin":', 'case "spin" if not os.path.exists("go"):'))
    process = await started(shop)
    await shop.order(1, note="spin")
    (child,) = {each["pid"] for each in await shop.noted("run")}
    process.kill()
    await eventually(lambda: not _lives(child))
    (shop.project.root / "go").touch()
    await shop.give_back("charge")
    await started(shop)
    await shop.settled("charge")
    assert await stored(shop) == [1]
    assert await shop.dead() == []


async def test_a_process_that_dies_between_two_messages_is_replaced_and_leaves_no_socket(shop: Shop) -> None:
    await shop.open(CHARGE)
    process = await started(shop)
    await shop.order(0)
    await shop.settled("charge")
    before = _sockets(process.pid)
    for number in range(1, 4):
        child = shop.notes("run")[-1]["pid"]
        os.kill(child, signal.SIGKILL)
        await eventually(partial(_is_gone, child))
        await shop.order(number)
        await shop.settled("charge")
    assert await stored(shop) == [0, 1, 2, 3]
    assert {each["attempt"] for each in shop.notes("run")} == {1}
    await eventually(lambda: _sockets(process.pid) == before)


def _sockets(pid: int) -> int:
    return sum(str(each.readlink()).startswith("socket:") for each in Path(f"/proc/{pid}/fd").iterdir())


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
