"""A minute of silence: the server or the connection freezes for longer than our pings wait, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(240)]

CHARGE = """
    import asyncio

    from journal import note
    from runner import Context, RetryPolicy, consume

    @consume("orders.*", output="paid.all", concurrency=8, retry=RetryPolicy.fixed(0.1, attempts=5))
    async def charge(order: dict, ctx: Context) -> dict:
        await asyncio.sleep(0.5)
        if order["id"] % 5 == 0 and ctx.attempt == 1:
            raise ValueError("bad luck")
        note("charge", id=order["id"])
        return {"id": order["id"]}
"""


@pytest.mark.parametrize("what", ["connection", "server"])
async def test_a_minute_of_silence_is_outlived(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    long: bool,
    what: str,
    tell: Callable[[str], None],
) -> None:
    if what == "server" and not long:
        pytest.skip("the short form freezes the connection alone: `--long` freezes the server, too")
    silence = 60.0 if long else 17.0  # our pings give up after 15 s
    await js.create("ORDERS", ["orders.*"])
    await js.create("PAID", ["paid.*"])
    count = 40
    async with Proxy.to(nats_server.port) as proxy:
        process = make_project(functions={"orders": CHARGE}).start("run", "--nats-url", proxy.url)
        for number in range(count):
            await js.publish("orders.1", {"id": number})
        await eventually(lambda: js.count("PAID"), within=60)
        before = proxy.connections
        if what == "server":
            nats_server.freeze()
        else:
            proxy.freeze()
        await asyncio.sleep(silence)
        if what == "server":
            nats_server.thaw()
        else:
            assert proxy.connections > before, "the silent connection was given up"
            proxy.thaw()
        thawed = time.monotonic()

        async def paid() -> bool:
            return sorted(output.json()["id"] for output in await js.messages("PAID")) == list(range(count))

        await eventually(paid, within=60)
        handled = time.monotonic() - thawed
        await eventually(lambda: js.settled("ORDERS", "shop-charge"), within=60)
        assert await js.count("DEADLETTERS") == 0
        assert process.running
        tell(
            f"freeze: the {what} silent for {silence:.0f} s: {count} handled {handled:.1f} s after it, "
            f"0 missing, 0 outputs twice, 0 dead letters"
        )
