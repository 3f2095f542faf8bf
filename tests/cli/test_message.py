"""`runner message show`: what became of one message, whatever state it is in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHOP = """
    import asyncio
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from journal import note
    from runner import Context, Reject, Retry, RetryPolicy, consume, gather

    @consume("orders.{id}.done", output="payments.{id}.charged")
    async def charge(body: dict, id: str) -> dict:
        return {"paid": id}

    @consume("payments.{id}.charged")
    async def book(body: dict, id: str) -> None: ...

    @consume("orders.{id}.busy", concurrency=1, timeout=600)
    async def work(body: dict, id: str) -> None:
        note("work", id=id)
        await asyncio.sleep(600)

    @consume("orders.{id}.later", retry=RetryPolicy(attempts=4))
    async def collect(body: dict, id: str) -> None:
        raise Retry(f"the bank of {body['card']} is closed", after=600)

    @consume("orders.{id}.refused")
    async def refuse(body: dict, id: str) -> None:
        raise Reject("nothing to charge")

    @consume("ledger.{account}.post", ordered_by="account", retry=RetryPolicy.fixed(600, attempts=3))
    async def post(body: dict, account: str) -> None:
        if body.get("fails"):
            raise ValueError("no such account")

    @consume("ledger.{account}.close", ordered_by="account", on_exhausted="park", retry=RetryPolicy(attempts=1))
    async def close(body: dict, account: str) -> None:
        if body.get("fails"):
            raise ValueError("it is not empty")

    @consume("orders.{id}.done", deliver="new")
    async def watch(body: dict, id: str) -> None: ...

    @consume("orders.{id}.later-on")
    async def remind(body: dict, id: str, ctx: Context) -> None:
        await ctx.publish(f"orders.{id}.reminded", {}, delay=3600)

    @consume("orders.{id}.nobody")
    async def nobody(body: dict, id: str) -> None: ...

    @consume("orders.{id}.split", output="items.{id}")
    async def split(body: dict, id: str) -> AsyncIterator[dict]:
        yield {"part": 1}
        yield {"part": 2}

    @consume("items.{id}", output="packed.{id}")
    async def pack(item: dict, id: str) -> dict:
        if item["part"] == 2:
            raise Retry("no box", after=600)
        return item

    @gather("packed.{id}")
    async def ship(items: list[dict], id: str) -> None: ...
"""
FROZEN = """
    import asyncio

    from journal import note
    from runner import consume

    @consume("frozen.{id}", timeout=600)
    async def freeze(body: dict, id: str) -> None:
        note("freeze", id=id)
        await asyncio.sleep(600)

    @consume("cold.{id}", ordered_by="id", timeout=600)
    async def hold(body: dict, id: str) -> None:
        note("hold", id=id)
        await asyncio.sleep(600)
"""
STREAMS = {
    "ORDERS": ["orders.>"],
    "PAYMENTS": ["payments.>"],
    "LEDGER": ["ledger.>"],
    "ITEMS": ["items.>", "packed.>"],
    "FROZEN": ["frozen.>", "cold.>"],
}


@pytest.fixture
async def project(make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream) -> Project:
    for stream, subjects in STREAMS.items():
        await js.create(stream, subjects, allow_direct=True, allow_atomic=True)
    return make_project(functions={"shop": SHOP, "frozen": FROZEN}, nats=nats_server.url)


def functions(message: Mapping[str, Any]) -> dict[str, Any]:
    return {each["function"]: each for each in message["functions"]}


class Shop:
    """The project, an instance that runs most of it, and one that is to be frozen."""

    def __init__(self, project: Project, js: RawJetStream) -> None:
        self.project = project
        self.js = js
        self.cold = project.start("run", "--only", "freeze", "--only", "hold")
        self.warm = project.start("run", *(f"--except={each}" for each in ("nobody", "freeze", "hold")))

    async def publish(self, subject: str, **body: object) -> str:
        """Publish a message: how it is named."""
        stream = next(
            name for name, captured in STREAMS.items() if f"{subject.split('.', maxsplit=1)[0]}.>" in captured
        )
        return f"{stream}:{await self.js.publish(subject, body)}"

    async def becomes(self, message: str, function: str, state: str) -> dict[str, Any]:
        """What is told of a message in a function, once it is in this state."""
        told: dict[str, Any] = {}

        async def there() -> bool:
            document = await asyncio.to_thread(self.project.json, "message", "show", message)
            told.update(functions(document)[function])
            return bool(told["state"] == state)

        try:
            await eventually(there)
        except AssertionError:
            raise AssertionError(f"{message} in {function} is not {state}: {told}") from None
        return told

    async def ends_well(self, before: str) -> None:
        """Done, with what it made and what became of that; skipped by a function that began later."""
        await self.becomes(before, "charge", "done")
        assert 'deliver="new"' in (await self.becomes(before, "watch", "skipped"))["why"]
        first = await self.publish("orders.1.done")
        (output,) = (await self.becomes(first, "charge", "done"))["outputs"]
        assert output["subject"] == "payments.1.charged"
        await self.becomes(output["message_id"], "book", "done")
        await self.becomes(first, "watch", "done")
        delayed = await self.becomes(await self.publish("orders.8.later-on"), "remind", "done")
        assert delayed["outputs"][0]["message"]["delayed"]["subject"] == "orders.8.reminded"

    async def runs(self) -> str:
        """Running, and where; waiting for that one; gone from the stream while it waits."""
        running = await self.publish("orders.2.busy")
        await eventually(lambda: len(self.project.journal("work")) == 1)
        told = await self.becomes(running, "work", "running")
        assert str(self.warm.pid) in told["instance"]
        assert (told["attempt"], bool(told["since"])) == (1, True)
        waiting = [await self.publish(f"orders.{number}.busy") for number in (3, 4)]
        for ahead, message in enumerate(waiting):
            told = await self.becomes(message, "work", "waiting")
            assert told["ahead"] == {"least": ahead, "most": ahead}
        await self.js.api("STREAM.MSG.DELETE.ORDERS", {"seq": int(waiting[1].partition(":")[2])})
        document = self.project.json("message", "show", waiting[1])
        assert (document["there"], functions(document)["work"]["state"]) == (False, "gone")
        return running

    async def fails(self) -> str:
        """Retrying, with the error of the attempt and without what is hidden; dead."""
        retried = await self.publish("orders.5.later", card="4111-1111")
        told = await self.becomes(retried, "collect", "retrying")
        assert (told["attempt"], told["attempts"], told["error"]["error"]) == (2, 4, "Retry")
        assert told["error"]["message"] == "the bank of [redacted] is closed"
        assert told["next_attempt"] > told["error"]["time"]
        refused = await self.publish("orders.6.refused")
        told = (await self.becomes(refused, "refuse", "dead"))["dead_letter"]
        assert (told["reason"], told["message"]) == ("rejected", "nothing to charge")
        letter = await self.js.message("DEADLETTERS", told["sequence"])
        assert f"ORDERS:{letter.headers['Jetrunner-Dead-Sequence']}" == refused
        return retried

    async def keeps_order(self) -> str:
        """Retrying in its shard, waiting behind that in its lane; dead with its key behind it, parked."""
        failing, behind = await self.publish("ledger.a.post", fails=True), await self.publish("ledger.a.post")
        told = await self.becomes(failing, "post", "retrying")
        assert told["error"]["where"].startswith("functions/shop.py:")
        assert (told["attempt"], told["error"]["message"]) == (2, "no such account")
        told = await self.becomes(behind, "post", "waiting")
        assert told["ahead"] == {"least": 1, "most": 1}
        assert f"the first of them {failing.partition(':')[2]}" in told["why"]
        head, kept = await self.publish("ledger.b.close", fails=True), await self.publish("ledger.b.close")
        assert "its key waits behind it" in (await self.becomes(head, "close", "dead"))["why"]
        assert f"behind {head}" in (await self.becomes(kept, "close", "parked"))["why"]
        return failing

    async def gathers(self) -> None:
        """One part of a split event is kept until the other is here."""
        split = await self.becomes(await self.publish("orders.7.split"), "split", "done")
        first, second = (each["message_id"] for each in split["outputs"])
        packed = await self.becomes(first, "pack", "done")
        await self.becomes(second, "pack", "retrying")
        told = await self.becomes(packed["outputs"][0]["message_id"], "ship", "gathering")
        assert (told["parts"]["present"], told["parts"]["count"]) == (1, 2)

    async def freezes(self) -> None:
        """In an instance that does not answer; of an ordered function it is told which."""
        frozen, held = await self.publish("frozen.1"), await self.publish("cold.1")
        await eventually(lambda: len([*self.project.journal("freeze"), *self.project.journal("hold")]) == 2)
        assert str(self.cold.pid) in (await self.becomes(held, "hold", "running"))["instance"]
        self.cold.freeze()
        told = await self.becomes(frozen, "freeze", "unknown")
        assert "no instance that runs the function has answered" in told["why"]
        told = await self.becomes(held, "hold", "unknown")
        assert str(self.cold.pid) in told["instance"]
        assert "does not answer" in told["why"]


@pytest.mark.slow
async def test_each_message_is_told_in_its_own_state(project: Project, js: RawJetStream) -> None:
    project.settings('redact = ["card"]')
    before = f"ORDERS:{await js.publish('orders.0.done', {})}"
    shop = Shop(project, js)
    for process in (shop.cold, shop.warm):
        await process.seen("ready")
    told = await shop.becomes(await shop.publish("orders.9.nobody"), "nobody", "waiting")
    assert "no instance has run it" in told["why"]
    await shop.ends_well(before)
    running, retried, failing = await shop.runs(), await shop.fails(), await shop.keeps_order()
    await shop.gathers()
    await shop.freezes()
    shop.warm.kill()
    # An error outlives the process whose attempt it was, and so does the time of the next one.
    told = await shop.becomes(retried, "collect", "retrying")
    assert told["error"]["message"] == "the bank of [redacted] is closed"
    await shop.becomes(running, "work", "unknown")
    said = project.runner("message", "show", failing).stdout
    assert "post: retrying, attempt 2 of 3, next one in " in said
    assert "attempt 1 failed: ValueError: no such account, at functions/shop.py:" in said


async def test_a_page_of_traces_is_named_where_it_is_set_or_somebody_listens_there(
    project: Project, js: RawJetStream
) -> None:
    await js.publish("orders.1.nobody", {})
    unset = await asyncio.to_thread(project.runner, "message", "show", "ORDERS:1")
    found = await asyncio.to_thread(project.json, "message", "show", "ORDERS:1")
    assert f"trace runner trace {found['trace_id']}" in unset.stdout
    assert "16686" not in unset.stdout
    named = await asyncio.to_thread(
        project.runner,
        "message",
        "show",
        "ORDERS:1",
        JETRUNNER_TRACE_URL="https://jaeger.example.com/trace/{trace_id}",
    )
    assert f"trace https://jaeger.example.com/trace/{found['trace_id']}" in named.stdout
