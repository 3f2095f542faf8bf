"""A context, and a connection made with `connect()`, can be used from another loop than the runner's; they never hang there."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import runner
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

IN_A_THREAD = """
    import contextlib
    import runner

    def threaded(order, ctx):
        {way}

    @lifespan
    async def app():
        async with runner.connect() as app:
            yield app

    @consume("orders.{{id}}", timeout=60, retry=RetryPolicy(attempts=1))
    def charge(order: Order, ctx: Context) -> None:
        try:
            answer = {call}
        except Exception as error:
            note("raised", error=f"{{type(error).__name__}}: {{error}}")
            raise
        note("answered", answer=str(answer))
"""
CALLS = {
    "ctx.request": 'asyncio.run(ctx.request("bank.quote", {"id": 1}))',
    "ctx.request in a task": """asyncio.run(asyncio.wait_for(ctx.request("bank.quote", {"id": 1}), 50))""",
    "app.request": 'asyncio.run(ctx.state.request("bank.quote", {"id": 1}))',
    "app.publish": 'asyncio.run(ctx.state.publish("audit.1", {"id": 1})).stream',
    "app.publish delayed": 'asyncio.run(ctx.state.publish("audit.1", {"id": 1}, delay=60)).stream',
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_call_from_the_loop_of_a_handlers_thread_is_answered(
    shop: Shop, js: RawJetStream, call: str
) -> None:
    async def quote(message: Any) -> None:
        await message.respond(b'{"cents": 7}')

    await js.client.subscribe("bank.quote", cb=quote)
    await shop.open(IN_A_THREAD.format(way="pass", call=call))
    shop.run()
    await shop.order(1)
    (answer,) = await shop.noted("answered")
    assert answer["answer"] in {"{'cents': 7}", "AUDIT", "JETRUNNER"}
    await shop.settled("charge")
    assert await shop.dead() == []


async def test_a_request_that_nobody_answers_ends_by_its_timeout(shop: Shop, js: RawJetStream) -> None:
    async def mute(_: Any) -> None:
        return

    await js.client.subscribe("bank.quote", cb=mute)
    call = 'asyncio.run(ctx.request("bank.quote", {"id": 1}, timeout=0.5))'
    await shop.open(IN_A_THREAD.format(way="pass", call=call))
    shop.run()
    await shop.order(1)
    assert reason(await shop.dead_letter()) == "exhausted"
    (raised,) = shop.notes("raised")
    assert raised["error"].startswith("Unconfirmed")


async def test_a_connection_whose_loop_has_ended_refuses_at_once(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """Its loop was stopped with the connection open, as `run_until_complete` leaves it."""

    def use() -> tuple[list[str], float]:
        first = asyncio.new_event_loop()
        opened = runner.connect(nats_server.url, project=tmp_path)
        app = first.run_until_complete(opened.__aenter__())
        errors = []
        began = time.monotonic()
        for call in (lambda: app.publish("orders.1", b"x"), lambda: app.request("bank.quote", b"x")):
            try:
                asyncio.run(call())
            except RuntimeError as error:
                errors.append(str(error))
        took = time.monotonic() - began
        first.run_until_complete(opened.__aexit__(None, None, None))
        first.close()
        try:
            asyncio.run(app.publish("orders.1", b"x"))
        except RuntimeError as error:
            errors.append(str(error))
        return errors, took

    errors, took = await asyncio.to_thread(use)
    assert len(errors) == 3
    assert all("loop" in error for error in errors)
    assert took < 15


async def test_a_call_into_a_loop_that_stands_still_is_given_up(
    nats_server: NatsServer, js: RawJetStream, tmp_path: Path
) -> None:
    async def mute(_: Any) -> None:
        return

    await js.client.subscribe("bank.quote", cb=mute)
    began, given_up = threading.Event(), threading.Event()

    def ask(app: Any) -> str:
        async def call() -> None:
            began.set()
            await app.request("bank.quote", b"x", timeout=0.2)

        try:
            asyncio.run(call())
        except Exception as error:  # noqa: BLE001  # whatever comes of it
            given_up.set()
            return type(error).__name__
        return "answered"

    async with runner.connect(nats_server.url, project=tmp_path) as app:
        asking = asyncio.create_task(asyncio.to_thread(ask, app))
        await asyncio.to_thread(began.wait, 60)
        stood = given_up.wait(60)  # on purpose in the loop itself
        assert stood
        assert await asking == "Unconfirmed"
