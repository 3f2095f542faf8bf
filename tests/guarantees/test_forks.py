"""What a handler forks is a process of its own: it ends when it is told to, and holds nothing of the runner's."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FORKING = """
    import multiprocessing

    forking = multiprocessing.get_context("fork")

    @consume("orders.{id}", timeout=600)
    HANDLER charge(order: Order) -> None:
        child = forking.Process(target=time.sleep, args=(60,), daemon=True)
        child.start()
        child.terminate()
        child.join(50)
        note("child", code=child.exitcode)
        with forking.Pool(1) as pool:
            busy = pool.apply_async(time.sleep, (60,))
        note("pool")
        os.kill(child.pid, 9) if child.is_alive() else None
"""


@pytest.mark.parametrize("handler", ["def", "async def"])
@pytest.mark.parametrize("arguments", [(), ("--workers", "1")], ids=["alone", "worker"])
async def test_a_child_that_a_handler_forks_hears_sigterm(
    shop: Shop, handler: str, arguments: tuple[str, ...]
) -> None:
    await shop.open(FORKING.replace("HANDLER", handler))
    await shop.running("charge", *arguments)
    await shop.order(1)
    (child,) = await shop.noted("child")
    assert child["code"] == -signal.SIGTERM
    await shop.noted("pool")
    await shop.settled("charge")


async def test_a_killed_runner_is_noticed_at_once_though_a_child_that_it_forked_lives(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", timeout=60)
        async def charge(order: Order) -> None:
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(0)
            note("forked", pid=child)
            await asyncio.sleep(60)
    """)
    process = await shop.running("charge")
    await shop.order(1)
    (forked,) = await shop.noted("forked")

    async def gone() -> bool:
        info = await shop.js.consumer("ORDERS", "shop-charge")
        return int(info["num_waiting"]) == 0

    try:
        await eventually(lambda: shop.pulling("charge"))
        process.kill()
        await eventually(gone, within=25)  # its requests would stand for 30 s
        os.kill(forked["pid"], 0)  # it lives
    finally:
        with suppress(ProcessLookupError):
            os.kill(forked["pid"], signal.SIGKILL)
