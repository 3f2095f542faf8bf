"""Parked keys under faults: all of a key's messages are done at last, in order, and their outputs stand once."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import streams
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(600)]

SOURCE = """
import asyncio, os, random, time
from pathlib import Path

from msgspec import Struct

from runner import Context, Reject, RetryPolicy, consume

ROOT = Path(__file__).parents[1]
JOURNAL = os.open(ROOT / "order.log", os.O_APPEND | os.O_WRONLY | os.O_CREAT)

class Entry(Struct):
    number: int

class Posted(Struct):
    sequence: int

@consume("ledger.{account}.posted", output="balances.{account}.changed", ordered_by="account",
         on_exhausted="park", retry=RetryPolicy.fixed(0.02, attempts=2))
async def post(entry: Entry, account: str, ctx: Context) -> Posted:
    told = f"{account} {ctx.sequence} {os.getpid()}"
    os.write(JOURNAL, f"S {told}\\n".encode())
    await asyncio.sleep(random.random() * 0.02)
    if not (ROOT / "mended").exists():
        if random.random() < 0.05:
            raise Reject("bad luck")
        if random.random() < 0.15:
            raise ValueError("worse luck")
    os.write(JOURNAL, f"D {told}\\n".encode())
    return Posted(ctx.sequence)
"""


def problems(lines: list[str], stored: dict[str, list[int]]) -> list[str]:
    """A message starts when all before it are done, and not after a later one is; at the end all are done."""
    found: list[str] = []
    done: dict[str, set[int]] = {key: set() for key in stored}
    highest: dict[str, int] = dict.fromkeys(stored, 0)
    thawed: set[str] = set()
    for number, line in enumerate(lines, 1):
        kind, *rest = line.split()
        if kind == "T":
            thawed.add(rest[0])
            continue
        key, sequence, pid = rest[0], int(rest[1]), rest[2]
        late = pid in thawed
        thawed.discard(pid)
        if kind == "D":
            done[key].add(sequence)
            highest[key] = max(highest[key], sequence)
            continue
        missing = [each for each in stored[key] if each < sequence and each not in done[key]]
        if (missing or sequence < highest[key]) and not late:
            found.append(f"line {number}: {line}: before {missing[:3]}, after {highest[key]}")
    for key, sequences in stored.items():
        if lost := [each for each in sequences if each not in done[key]]:
            found.append(f"{key}: never done: {lost}")
    return found


class Ledger:
    """A ledger whose keys park, three instances that work on it, and what is done to them."""

    def __init__(
        self, project: Project, server: NatsServer, js: RawJetStream, luck: random.Random, keys: int
    ) -> None:
        self.project = project
        self.server = server
        self.js = js
        self.luck = luck
        self.journal = project.root / "order.log"
        self.journal.touch()
        self.instances: list[RunnerProcess] = []
        self.ended: list[RunnerProcess] = []
        self.stored: dict[str, list[int]] = {f"a{number}": [] for number in range(keys)}
        self.faults: list[str] = []
        self.calm = asyncio.Event()

    async def start(self) -> RunnerProcess:
        process = self.project.start("run")
        await process.seen("ready")
        return process

    async def publish(self, count: int, seconds: float) -> None:
        for number in range(count):
            key = self.luck.choice(list(self.stored))
            self.stored[key].append(await self.post(key, number))
            await asyncio.sleep(seconds / count)

    async def post(self, key: str, number: int) -> int:
        while True:
            try:
                return await self.js.publish(
                    f"ledger.{key}.posted", {"number": number}, {"Nats-Msg-Id": f"{number}"}, within=2
                )
            except Exception:  # noqa: BLE001  # the server is down for a moment
                await asyncio.sleep(0.1)

    async def trouble(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self.luck.uniform(0.5, 2.0))
            kind = self.luck.choice(["kill", "kill", "term", "freeze", "server"])
            self.faults.append(kind)
            place = self.luck.randrange(len(self.instances))
            process = self.instances[place]
            if kind == "server":
                await asyncio.to_thread(self.server.restart, kill=True)
            elif kind == "freeze":
                process.freeze()
                await asyncio.sleep(4.0)
                with self.journal.open("a") as file:
                    file.write(f"T {process.pid}\n")
                process.thaw()
            else:
                process.signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
                self.ended.append(process)
                self.instances[place] = await self.start()

    async def parked(self) -> list[str]:
        """The keys that are parked; none while the server is down."""
        try:
            marks = await self.js.messages("KV_jetrunner", "$KV.jetrunner.parked.>")
        except Exception:  # noqa: BLE001  # it is down for a moment
            return []
        return [mark.subject.rpartition(".")[2] for mark in marks if mark.json()["state"] == "parked"]

    async def redrive(self, *keys: str) -> None:
        named = [argument for key in keys for argument in ("--key", key)]
        await asyncio.to_thread(self.project.runner, "deadletter", "redrive", *named)

    async def redriving(self) -> None:
        while not self.calm.is_set():
            await asyncio.sleep(self.luck.uniform(0.1, 0.6))
            if parked := await self.parked():
                await self.redrive(self.luck.choice(parked))

    async def settled(self) -> bool:
        """Whether every message is done, nothing is parked, and every key is free; brings back what is parked."""
        if parked := await self.parked():  # with one command: sixty would take longer than there is
            await self.redrive(*parked)
        lines = self.journal.read_text().splitlines()
        done = {tuple(line.split()[1:3]) for line in lines if line.startswith("D ")}
        return len(done) == sum(map(len, self.stored.values())) and not await self.js.count("PARKED")

    async def problems(self) -> list[str]:
        found = problems(self.journal.read_text().splitlines(), self.stored)
        outputs: dict[str, list[int]] = {key: [] for key in self.stored}
        for message in await self.js.messages("BALANCES", "balances.>"):
            outputs[message.subject.split(".")[1]].append(message.json()["sequence"])
        for key, sequences in self.stored.items():
            if outputs[key] != sequences:
                found.append(f"{key}: outputs {outputs[key]}, not {sequences}")
        return found + [each.output for each in (*self.ended, *self.instances) if "Traceback" in each.output]

    def told(self, what: str) -> int:
        """How often the instances said so."""
        return sum(line.count(what) for each in (*self.ended, *self.instances) for line in each.stderr)


async def test_parked_keys_come_back_whole_and_in_order_whatever_happens(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    """Promises 1, 2 and 3 of a function that parks: instances and server die while keys are parked and come back."""
    count, keys, shards, seconds = (6_000, 60, 8, 120.0) if long else (600, 12, 4, 14.0)
    project = make_project(functions={"ledger": SOURCE}, streams=streams(shards), nats=nats_server.url)
    await project.applied()
    ledger = Ledger(project, nats_server, js, random.Random(seed), keys)
    ledger.instances = [await ledger.start() for _ in range(3)]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ledger.redriving())
        await asyncio.gather(ledger.publish(count, seconds), ledger.trouble(seconds))
        (project.root / "mended").touch()
        ledger.calm.set()
    unsettled = ""
    try:
        await eventually(ledger.settled, within=60)
    except AssertionError as error:
        unsettled = str(error)
    found = await ledger.problems()
    tell(
        f"parked: seed {seed}: {count} messages, {len(ledger.faults)} faults, {ledger.told('is parked')} times parked, "
        f"{ledger.told('is back')} back: {len(found)} problems {unsettled}"
    )
    assert not found, f"seed {seed}, faults {ledger.faults}\n" + "\n".join(found)
    assert not unsettled
