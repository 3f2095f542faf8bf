"""Dead letters of an ordered function come back while its instances are killed: each is done, in order, its attempts exact."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

STREAMS = {
    "ledger": 'name = "LEDGER"\nsubjects = ["ledger.{account}.posted"]\n[shards]\ncount = 6\nby = ["account"]'
}
POST = """
    import asyncio
    import os
    import time
    from pathlib import Path

    from runner import Context, Reject, RetryPolicy, consume

    ROOT = Path(__file__).parents[1]
    JOURNAL = os.open(ROOT / "order.log", os.O_APPEND | os.O_WRONLY | os.O_CREAT)

    @consume("ledger.{account}.posted", ordered_by="account", retry=RetryPolicy.fixed(0.2, attempts=5))
    async def post(entry: dict, account: str, ctx: Context) -> None:
        if not (ROOT / "mended").exists():
            raise Reject("not yet")
        told = f"{account} {ctx.sequence} {os.getpid()} {ctx.attempt}"
        os.write(JOURNAL, f"S {told}\\n".encode())
        await asyncio.sleep(0.01)
        if entry["letter"] and ctx.attempt < 3:
            os.write(JOURNAL, f"F {told}\\n".encode())
            raise ValueError("bad luck")
        os.write(JOURNAL, f"D {told}\\n".encode())
"""
LETTERS, KEYS, KILLS = 50, 25, 6


class Ledger:
    """Two dead letters of each key, and what is published behind them."""

    def __init__(self, project: Project, js: RawJetStream) -> None:
        self.project = project
        self.js = js
        self.letters: dict[str, list[int]] = defaultdict(list)
        self.behind: dict[str, list[int]] = defaultdict(list)
        self.instances: list[RunnerProcess] = []
        self.started: list[RunnerProcess] = []
        """Those of now, and of before."""

    async def start(self, url: str = "") -> RunnerProcess:
        process = self.project.start("run", **({"NATS_URL": url} if url else {}))
        await process.seen("ready")
        self.instances.append(process)
        self.started.append(process)
        return process

    async def bury(self) -> None:
        for number in range(LETTERS):
            key = f"a{number % KEYS}"
            sequence = await self.js.publish(f"ledger.{key}.posted", {"letter": True})
            self.letters[key].append(sequence)

        async def buried() -> bool:
            return await self.js.count("DEADLETTERS") == LETTERS

        await eventually(buried)

    async def redrive(self) -> None:
        (self.project.root / "mended").touch()
        told = await asyncio.to_thread(self.project.json, "deadletter", "redrive", "--all")
        assert (len(told["redriven"]), told["kept"]) == (LETTERS, [])

    async def publish(self) -> None:
        for number in range(4 * KEYS):
            key = f"a{number % KEYS}"
            self.behind[key].append(await self.js.publish(f"ledger.{key}.posted", {"letter": False}))
            await asyncio.sleep(0.05)

    async def kill(self, luck: random.Random) -> None:
        for _ in range(KILLS):
            await asyncio.sleep(luck.uniform(0.2, 0.8))
            process = self.instances.pop(luck.randrange(len(self.instances)))
            with (self.project.root / "order.log").open(
                "a"
            ) as journal:  # first: its shards go on within 0.1 s
                journal.write(f"K - 0 {process.pid} 0\n")
            process.kill()
            await self.start()

    def lines(self) -> list[list[str]]:
        return [line.split() for line in (self.project.root / "order.log").read_text().splitlines()]

    async def is_done(self) -> bool:
        done = {(line[1], int(line[2])) for line in self.lines() if line[0] == "D"}
        wanted = {(key, each) for kind in (self.letters, self.behind) for key in kind for each in kind[key]}
        return wanted <= done and not await self.js.count("DEADLETTERS") and not await self.js.count("PARKED")

    def problems(self) -> list[str]:
        """What is out of order: letters first, by their sequence, one at a time; a failure costs one attempt, a death none.

        A busy machine may let an owner stand still until its lease is over, which says so: that is as if it had died.
        """
        found: list[str] = []
        runs: dict[str, tuple[str, str]] = {}
        failures: dict[tuple[str, str], int] = defaultdict(int)
        last: dict[tuple[str, str], str] = {}
        done: dict[str, list[int]] = defaultdict(list)
        killed = {str(each.pid) for each in self.started if "another instance owns shard" in each.output}
        for kind, key, sequence, pid, attempt in self.lines():
            message = key, sequence
            if kind == "K":
                killed.add(pid)
            elif kind == "S":
                running = runs.get(key)
                if running is not None and running[1] not in killed:
                    found.append(f"{message} starts while {running} runs")
                known = failures[message]
                # A process that is killed right after a failure may not have put it on record.
                doubtful = last.pop(message, "") in killed
                if not known - doubtful <= int(attempt) - 1 <= known:
                    found.append(f"{message} is attempt {attempt} after {known} failures")
                failures[message] = int(attempt) - 1
                runs[key] = sequence, pid
            else:
                runs.pop(key, None)
            if kind == "F":
                failures[message] += 1
                last[message] = pid
            elif kind == "D" and int(sequence) not in done[key]:
                done[key].append(int(sequence))
        for key, sequences in self.letters.items():
            behind = [each for each in done[key] if each not in sequences]
            if [each for each in done[key] if each in sequences] != sequences or behind != self.behind[key]:
                found.append(f"{key}: {done[key]}, not {sequences} and {self.behind[key]}")
        return found


@pytest.mark.parametrize("seed", [1])
async def test_each_is_done_in_order_and_its_attempts_are_exact_whoever_is_killed(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, seed: int
) -> None:
    project = make_project(functions={"ledger": POST}, streams=STREAMS, nats=nats_server.url)
    await project.applied()
    ledger = Ledger(project, js)
    for _ in range(3):
        await ledger.start()
    await ledger.bury()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ledger.kill(random.Random(seed)))
        tasks.create_task(ledger.publish())
        tasks.create_task(ledger.redrive())
    await eventually(ledger.is_done, within=120)
    assert ledger.problems() == []
    assert not [line for each in ledger.instances for line in each.stderr if "Traceback" in line]


async def test_a_shard_that_goes_to_another_instance_costs_no_attempt_and_nothing_runs_twice(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """The owner's server is far away: what it asks before a start, and at the end of a shard, takes a while."""
    source = POST.replace("fixed(0.2, attempts=5)", "fixed(0.1, attempts=20)").replace(
        "attempt < 3", "attempt < 12"
    )
    project = make_project(functions={"ledger": source}, streams=STREAMS, nats=nats_server.url)
    await project.applied()
    ledger = Ledger(project, js)
    async with Proxy.to(nats_server.port) as proxy:
        first = await ledger.start(proxy.url)
        await first.seen("owns 6 of 6 shards")
        await ledger.bury()
        proxy.delay(0.005)
        await ledger.redrive()
        await eventually(lambda: len(ledger.lines()) > 2 * KEYS)
        second = await ledger.start()
        await first.seen("owns 3 of 6 shards")
        await ledger.start()
        second.terminate()
        await eventually(ledger.is_done, within=60)
        assert await second.ended() == 0
        assert ledger.problems() == []
