"""Each figure of `runner status` and `/metrics` is changed by what it tells of, and both say the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.asker import asking
from tests.support.eventually import eventually
from tests.support.health import asked, number
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server

LEDGER = """
    name = "LEDGER"
    subjects = ["ledger.{account}.*"]
    [shards]
    count = 4
    by = ["account"]
"""
POST = """
    from runner import Reject, consume

    @consume("ledger.{account}.posted", ordered_by="account", on_exhausted="park")
    async def post(body: bytes) -> None:
        if body == b"bad":
            raise Reject("no")
"""
GATED = """
    import os
    from pathlib import Path

    import anyio

    from runner import consume, reply

    async def gate() -> None:
        while not Path(os.environ["GATE"]).exists():
            await anyio.sleep(0.02)

    @consume("orders.*", concurrency=2)
    async def charge(body: bytes) -> None:
        await gate()

    @reply("quotes.*", concurrency=3)
    async def quote() -> None:
        await gate()
"""


class Instance:
    """One that tells its metrics."""

    def __init__(self, project: Project, **environment: str) -> None:
        self.project = project
        self.port = free_port()
        self.process: RunnerProcess = project.start(
            "run", "--health", f"127.0.0.1:{self.port}", **environment
        )

    async def ready(self) -> Instance:
        """Once it works."""
        await self.process.seen("ready: ")
        return self

    async def tells(self, metric: str, function: str) -> float:
        """One series of its metrics."""
        return number((await asked(self.port, "/metrics"))[1], f'jetrunner_{metric}{{function="{function}"}}')


def shown(project: Project, function: str) -> dict[str, Any]:
    (found,) = [each for each in project.json("status")["functions"] if each["function"] == function]
    return dict(found)


async def test_messages_that_wait_are_the_lag_in_messages_and_their_age_the_lag_in_seconds(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, tmp_path: Path
) -> None:
    await js.create("ORDERS", ["orders.*"])
    project = make_project(functions={"shop": GATED}, nats=nats_server.url)
    here = await Instance(project, GATE=str(tmp_path / "gate")).ready()
    assert (await here.tells("pending", "charge"), await here.tells("lag_seconds", "charge")) == (0, 0)
    for _ in range(12):
        await js.publish("orders.a", b"x")

    async def waits() -> float:
        assert await here.tells("pending", "charge") == shown(project, "charge")["pending"] == 10
        lag = await here.tells("lag_seconds", "charge")
        assert lag > 1
        return lag

    first = await eventually(waits)

    async def older() -> bool:
        lag = await here.tells("lag_seconds", "charge")
        return lag > first + 3 and shown(project, "charge")["lag"] == pytest.approx(lag, abs=0.001)

    await eventually(older)
    (tmp_path / "gate").touch()

    async def none() -> bool:
        lags = await here.tells("lag_seconds", "charge"), shown(project, "charge")["lag"]
        counts = await here.tells("pending", "charge"), shown(project, "charge")["pending"]
        return lags == counts == (0, 0)

    await eventually(none)


async def test_handlers_that_run_take_slots_of_those_that_read_and_of_those_that_answer(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, tmp_path: Path
) -> None:
    await js.create("ORDERS", ["orders.*"])
    project = make_project(functions={"shop": GATED}, nats=nats_server.url)
    here = await Instance(project, GATE=str(tmp_path / "gate")).ready()

    async def free(function: str, total: int, wanted: int) -> None:
        async def both() -> bool:
            told = await here.tells("slots", function), await here.tells("slots_free", function)
            found = shown(project, function)
            return told == (found["slots"], found["slots_free"]) == (total, wanted)

        await eventually(both)

    await free("charge", 2, 2)
    await free("quote", 3, 3)
    await js.publish("orders.a", b"x")
    await free("charge", 2, 1)
    for _ in range(3):
        await js.publish("orders.a", b"x")
    await free("charge", 2, 0)
    async with asking(nats_server.url) as asker:
        asker.send("quotes.a")
        await free("quote", 3, 2)
        for _ in range(4):
            asker.send("quotes.a")
        await free("quote", 3, 0)
    await eventually(lambda: shown(project, "quote")["pending"] == 2)

    def told() -> bool:
        rows = {
            line.split()[0]: line.split() for line in project.runner("status").stdout.splitlines() if line
        }
        return "0/2" in rows["charge"] and "0/3" in rows["quote"]

    await eventually(told)
    (tmp_path / "gate").touch()
    await free("charge", 2, 2)
    await free("quote", 3, 3)


async def test_a_killed_instances_shards_are_takeovers_of_the_other_and_take_some_time(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"ledger": POST}, streams={"ledger": LEDGER}, nats=nats_server.url)
    await project.applied()
    first, second = await Instance(project).ready(), await Instance(project).ready()

    async def shared() -> bool:
        return await first.tells("shards", "post") == await second.tells("shards", "post") == 2

    await eventually(shared)
    before = await second.tells("takeover_seconds_count", "post")
    first.process.kill()

    async def taken() -> float:
        assert await second.tells("shards", "post") == 4
        assert await second.tells("takeover_seconds_count", "post") == before + 2
        return await second.tells("takeover_seconds_sum", "post")

    spent = await eventually(taken)
    assert 0 < spent < 20
    found = shown(project, "post")["takeovers"]
    assert found["number"] == before + 2
    assert 0 < found["p50"] <= found["p99"] <= spent


async def test_a_message_that_is_given_up_parks_its_key_until_that_is_skipped(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(functions={"ledger": POST}, streams={"ledger": LEDGER}, nats=nats_server.url)
    await project.applied()
    here = await Instance(project).ready()

    async def parked(keys: int, messages: int) -> bool:
        found = shown(project, "post")
        return (found["parked_keys"], found["parked"]) == (keys, messages) and await here.tells(
            "parked_keys", "post"
        ) == keys

    assert await parked(0, 0)
    for account in ("a", "b"):
        await js.publish(f"ledger.{account}.posted", b"bad")
    await eventually(lambda: parked(2, 0))
    for _ in range(3):
        await js.publish("ledger.a.posted", b"good")
    await eventually(lambda: parked(2, 3))
    assert await here.tells("parked_total", "post") == 2
    assert project.runner("parked", "skip", "a").code == 0
    await eventually(lambda: parked(1, 0))
    await eventually(lambda: shown(project, "post")["acked"] == 3)
