"""A ledger under faults: instances of one ordered function, and everything that may happen to them and to their server."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig

from runner.core.identity import shard_durable
from tests.support.eventually import eventually
from tests.support.jetstream import ApiError, RawJetStream
from tests.support.order import check, check_outputs, story
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

STREAMS = {
    "ledger": """
        name = "LEDGER"
        subjects = ["ledger.{account}.posted"]
        duplicate_window = "15m"
        num_replicas = REPLICAS

        [shards]
        count = SHARDS
        by = ["account"]
    """,
    "balances": """
        name = "BALANCES"
        subjects = ["balances.{account}.changed"]
        duplicate_window = "15m"
        num_replicas = REPLICAS
    """,
}
LEASE_SECONDS = 3.0


def streams(shards: int, replicas: int = 1) -> dict[str, str]:
    """The stream files of a ledger with so many shards."""
    return {
        name: text.replace("SHARDS", str(shards)).replace("REPLICAS", str(replicas))
        for name, text in STREAMS.items()
    }


class Instance:
    """One `runner run`; behind a proxy of its own when it has one."""

    def __init__(self, process: RunnerProcess, proxy: Proxy | None) -> None:
        self.process = process
        self.proxy = proxy
        self.troubled = False
        """It is in a fault just now."""


class Ledger:
    """Accounts whose postings must be worked off in order; `instances` run the function, `faults` trouble them."""

    def __init__(
        self,
        project: Project,
        url: str,
        js: RawJetStream,
        luck: random.Random,
        *,
        server: NatsServer | None = None,
        proxies: Sequence[Proxy] = (),
    ) -> None:
        self.project = project
        self.url = url
        self.server = server
        self.js = js
        self.proxies = proxies
        self.luck = luck
        self.instances: list[Instance] = []
        self.ended: list[RunnerProcess] = []
        self.stored: dict[str, list[int]] = {}
        self.told: list[str] = []
        """The faults so far, with their moments."""
        self.happened: dict[str, int] = {}
        """How many faults of each kind took effect."""
        self.problems: list[str] = []
        self.began = time.monotonic()
        self.journal = project.root / "order.log"
        self.journal.touch()
        self._settled: set[str] = set()
        self._read = 0
        self._server_down = asyncio.Lock()
        """Held while the server is killed and started: two faults at once would start two."""

    # -- instances --------------------------------------------------------------------------------------

    def add(self, *, behind_proxy: bool = False) -> Instance:
        """Start one more instance."""
        used = [each.proxy for each in self.instances]
        proxy = next((each for each in self.proxies if each not in used), None) if behind_proxy else None
        process = self.project.start("run", NATS_URL=proxy.url if proxy else self.url, PYTHONFAULTHANDLER="1")
        instance = Instance(process, proxy)
        self.instances.append(instance)
        return instance

    async def owning(self, shards: int, *, within: float = 30.0) -> None:
        """Return once every shard's consumer is pulled from."""

        async def pulled() -> bool:
            for number in range(shards):
                info = await self.js.consumer("LEDGER", shard_durable("shop", "post", 1, number))
                if not info["num_waiting"]:
                    return False
            return True

        try:
            await eventually(pulled, within=within)
        except AssertionError:
            self.problems.append(f"not all shards are owned after {within:g} s:\n{await self.shards()}")

    def pick(self, *, proxied: bool = False) -> Instance | None:
        """One that is in no trouble; at least one more stays so."""
        sound = [each for each in self.instances if not each.troubled]
        able = [each for each in sound if each.proxy is not None] if proxied else sound
        if len(sound) < 2 or not able:
            return None
        chosen = self.luck.choice(able)
        chosen.troubled = True
        return chosen

    # -- messages ---------------------------------------------------------------------------------------

    async def publish(self, count: int, keys: int, seconds: float) -> None:
        """Store that many postings evenly over the time, a fifth of them to a few busy accounts, whatever happens."""
        began, chunk = time.monotonic(), max(50, count // 400)
        for start in range(0, count, chunk):
            await asyncio.gather(
                *[self.post(number, keys) for number in range(start, min(start + chunk, count))]
            )
            await asyncio.sleep(max(0.0, began + seconds * start / count - time.monotonic()))

    async def post(self, number: int, keys: int) -> None:
        account = f"a{self.luck.randrange(10 if self.luck.random() < 0.2 else keys)}"
        headers = {"Nats-Msg-Id": f"posting-{number}"}
        while True:
            try:
                sequence = await self.js.publish(
                    f"ledger.{account}.posted", {"number": number}, headers, within=1
                )
                break
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.05)
        self.stored.setdefault(account, []).append(sequence)

    async def settled(self, *, within: float) -> None:
        """Return once every stored message was done, or failed for the last time."""
        total = sum(map(len, self.stored.values()))
        try:
            await eventually(lambda: self.progress() >= total, within=within)
        except AssertionError:
            self.problems.append(
                f"{total - len(self._settled)} messages are not done after {within:g} s:\n"
                + await self.shards()
            )

    async def shards(self) -> str:
        """Who owns each shard, and what its consumer has."""
        lines = []
        for name in await self.js.consumers("LEDGER"):
            info = await self.js.consumer("LEDGER", name)
            generation, number = name.split("-")[-2:]
            try:
                claim = await self.js.api(
                    "STREAM.MSG.GET.KV_jetrunner",
                    {"last_by_subj": f"$KV.jetrunner.claim.shop.post.{generation}.{number}"},
                )
                owner = base64.b64decode(claim["message"]["data"]).decode()
            except ApiError:
                owner = "nobody"
            lines.append(
                f"{name}: pending {info['num_pending']}, unsettled {info['num_ack_pending']}, pulls "
                f"{info['num_waiting']}, floor {info['ack_floor']}, delivered {info['delivered']}, {owner}"
            )
        members = await self.js.messages("KV_jetrunner", "$KV.jetrunner.member.>")
        return "\n".join([*lines, *(member.body.decode() for member in members)])

    def progress(self) -> int:
        """How many messages were done so far, or failed for the last time."""
        with self.journal.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        for line in new.decode().splitlines():
            kind, _, *rest = line.split()
            if kind == "D" or (kind == "F" and rest[2] >= rest[3]):
                self._settled.add(rest[0])
        return len(self._settled)

    def longest_pause(self, since: float) -> float:
        """The longest time without a message done, from that moment of Unix time on, in seconds."""
        dones = [
            float(line.split()[6]) for line in self.journal.read_text().splitlines() if line.startswith("D ")
        ]
        moments = [since, *sorted(done for done in dones if done > since)]
        return max((after - before for before, after in itertools.pairwise(moments)), default=0.0)

    # -- faults -----------------------------------------------------------------------------------------

    async def trouble(self, number: int, seconds: float) -> None:
        """Draw that many faults and let them happen over the time, overlapping as they fall; one that finds nobody to
        strike is drawn anew."""
        kinds = [*self.faults]
        # Each kind comes as often as the others; the order is luck.
        drawn = [kinds[place % len(kinds)] for place in range(number)]
        self.luck.shuffle(drawn)
        moments = sorted(self.luck.uniform(0.05, 1.0) * seconds for _ in drawn)
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for kind, moment in zip(drawn, moments, strict=True):
                await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
                tasks.create_task(self._happen(kind))

    async def _happen(self, kind: str) -> None:
        others = [each for each in self.faults if each != kind]
        self.luck.shuffle(others)
        for drawn in (kind, *others):
            self.note(drawn)
            if await self.faults[drawn]():
                self.happened[drawn] = self.happened.get(drawn, 0) + 1
                return

    def note(self, text: str) -> None:
        """Remember that something was done."""
        self.told.append(f"{time.time():.3f} {text}")

    @property
    def faults(self) -> dict[str, Callable[[], Awaitable[bool]]]:
        """Everything that may happen; True from one that took effect."""
        return {
            "kill": self.kill, "kill two": self.kill_two, "freeze past the lease": self.freeze, "hiccup": self.hiccup,
            "stop": self.stop, "join": self.join, "kill server": self.kill_server,
            "kill server and owner": self.kill_server_and_owner, "cut": self.cut, "cut off": self.cut_off,
            "silence": self.silence,
        }  # fmt: skip

    async def kill(self) -> bool:
        """SIGKILL an instance; another starts soon."""
        chosen = self.pick()
        if chosen is not None:
            self._kill(chosen)
            await asyncio.sleep(self.luck.random() * 0.5)
            self.add(behind_proxy=self.luck.random() < 0.5)
        return chosen is not None

    def _kill(self, chosen: Instance) -> None:
        self.note(f"  SIGKILL {chosen.process.pid}")
        self.instances.remove(chosen)
        self._unexpected(chosen)
        chosen.process.kill()

    async def kill_two(self) -> bool:
        """SIGKILL two at the same moment."""
        return all(await asyncio.gather(self.kill(), self.kill()))

    async def freeze(self) -> bool:
        """SIGSTOP an instance until well after its lease, then SIGCONT."""
        return await self._freeze(self.luck.uniform(LEASE_SECONDS + 0.2, LEASE_SECONDS + 3))

    async def hiccup(self) -> bool:
        """SIGSTOP an instance for less than its lease."""
        return await self._freeze(self.luck.uniform(0.05, LEASE_SECONDS - 0.5))

    async def _freeze(self, seconds: float) -> bool:
        chosen = self.pick()
        if chosen is not None:
            self.note(f"  SIGSTOP {chosen.process.pid} for {seconds:.2f} s")
            chosen.process.freeze()
            await asyncio.sleep(seconds)
            self.thaw(chosen)
        return chosen is not None

    def thaw(self, frozen: Instance) -> None:
        """SIGCONT; the journal tells the moment."""
        with self.journal.open("ab", buffering=0) as file:
            file.write(f"T {frozen.process.pid}\n".encode())
        self.note(f"  SIGCONT {frozen.process.pid}")
        frozen.process.thaw()
        frozen.troubled = False

    async def stop(self) -> bool:
        """SIGTERM an instance; its replacement starts at the same moment, unless there are many."""
        chosen = self.pick()
        if chosen is not None:
            self.note(f"  SIGTERM {chosen.process.pid}")
            self.instances.remove(chosen)
            self._unexpected(chosen)
            chosen.process.terminate()
            self.ended.append(chosen.process)
            if len(self.instances) < 4:
                self.add(behind_proxy=self.luck.random() < 0.5)
        return chosen is not None

    async def join(self) -> bool:
        """One more instance."""
        room = len(self.instances) < 6
        if room:
            self.add(behind_proxy=self.luck.random() < 0.5)
        return room

    async def kill_server(self) -> bool:
        """SIGKILL nats-server and start it again on its port and store."""
        if self.server is not None:
            async with self._server_down:
                self.server.kill()
                await asyncio.sleep(self.luck.choice((0.0, 0.3, 1.0)))
                await asyncio.to_thread(self.server.start)
        return self.server is not None

    async def kill_server_and_owner(self) -> bool:
        """Both within moments."""
        chosen = self.pick()
        if self.server is None or chosen is None:
            return False
        owner_first = self.luck.random() < 0.5
        async with self._server_down:
            if owner_first:
                self._kill(chosen)
                await asyncio.sleep(self.luck.random() * 0.1)
            self.server.kill()
            if not owner_first:
                await asyncio.sleep(self.luck.random() * 0.1)
                self._kill(chosen)
            await asyncio.to_thread(self.server.start)
        self.add(behind_proxy=self.luck.random() < 0.5)
        return True

    async def cut(self) -> bool:
        """Break an instance's connection; it may connect again at once."""
        chosen = self.pick(proxied=True)
        if chosen is not None and chosen.proxy is not None:
            self.note(f"  cut {chosen.process.pid}")
            await chosen.proxy.cut()
            chosen.troubled = False
        return chosen is not None

    async def cut_off(self) -> bool:
        """Break an instance's connection and refuse new ones for a while."""
        chosen = self.pick(proxied=True)
        if chosen is not None and chosen.proxy is not None:
            seconds = self.luck.uniform(0.5, LEASE_SECONDS + 1)
            self.note(f"  cut off {chosen.process.pid} for {seconds:.2f} s")
            await chosen.proxy.cut(refuse=True)
            await asyncio.sleep(seconds)
            await chosen.proxy.mend()
            chosen.troubled = False
        return chosen is not None

    async def silence(self) -> bool:
        """Hold every byte between an instance and the server until after its lease."""
        chosen = self.pick(proxied=True)
        if chosen is not None and chosen.proxy is not None:
            seconds = self.luck.uniform(LEASE_SECONDS, LEASE_SECONDS + 2)
            self.note(f"  silence {chosen.process.pid} for {seconds:.2f} s")
            chosen.proxy.freeze()
            await asyncio.sleep(seconds)
            chosen.proxy.thaw()
            chosen.troubled = False
        return chosen is not None

    # -- the end ----------------------------------------------------------------------------------------

    def _unexpected(self, instance: Instance) -> None:
        if not instance.process.running:
            self._ended(instance.process, instance.process.code)

    def _ended(self, process: RunnerProcess, code: int | None) -> None:
        """One that was not ready yet may end for want of a server, or of its signal handlers."""
        if code and any("ready" in line for line in process.stderr):
            self.problems.append(
                f"instance {process.pid} ended with {code}:\n" + "\n".join(process.stderr[-30:])
            )

    async def close(self) -> None:
        """Stop every instance in good order."""
        for instance in self.instances:
            self._unexpected(instance)
            if instance.process.running:
                instance.process.terminate()
                self.ended.append(instance.process)
        for process in self.ended:
            try:
                self._ended(process, await process.ended(within=40))
            except AssertionError:
                process.signal(signal.SIGABRT)  # the fault handler tells where it hangs
                await process.ended()
                self.problems.append(
                    f"instance {process.pid} does not stop:\n" + "\n".join(process.stderr[-60:])
                )

    async def judge(self) -> str:
        """Check the journal, the outputs and the dead letters; `problems` then has all that is wrong."""
        stored = {key: sorted(sequences) for key, sequences in self.stored.items()}
        with self.journal.open() as file:
            verdict = check(file, stored)
        letters = await self.js.messages("DEADLETTERS")
        dead = {int(letter.headers["Jetrunner-Dead-Sequence"]) for letter in letters}
        blamed = [letter for letter in letters if letter.headers["Jetrunner-Dead-Reason"] != "exhausted"]
        self.problems += [f"dead letter: {letter.headers}" for letter in blamed]
        if len(letters) > len(dead):
            self.problems.append(f"{len(letters) - len(dead)} dead letters stand twice")
        outputs = [(subject.split(".")[1], sequence) async for subject, sequence in postings(self.js)]
        self.problems += verdict.problems
        self.problems += check_outputs(outputs, stored, dead)
        return f"{verdict}; {len(outputs)} outputs, {len(letters)} dead letters stored"

    def explain(self) -> str:
        """All that is known about what went wrong."""
        logs = self.project.root / "logs"
        logs.mkdir(exist_ok=True)
        for process in self.project._started:
            (logs / f"{process.pid}.log").write_text(process.output)
        (logs / "faults.log").write_text("\n".join(self.told))
        return f"{story(self.journal, self.problems)}\njournal: {self.journal}, logs: {logs}\n" + "\n".join(
            self.told
        )


@asynccontextmanager
async def at_work(
    project: Project, server: NatsServer, js: RawJetStream, luck: random.Random, shards: int
) -> AsyncIterator[Ledger]:
    """A ledger to which everything may happen: four instances, every other one behind a proxy, own all its shards."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy.to(server.port)) for _ in range(8)]
        ledger = Ledger(project, server.url, js, luck, server=server, proxies=proxies)
        for number in range(4):
            ledger.add(behind_proxy=number % 2 == 0)
        await ledger.owning(shards)
        yield ledger


async def postings(js: RawJetStream) -> AsyncIterator[tuple[str, int]]:
    """Subject and sequence of every message of BALANCES, in order."""
    stream = js.client.jetstream()
    total = await js.count("BALANCES")
    if not total:
        return
    reader = await stream.pull_subscribe(
        ">", stream="BALANCES", config=ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
    )
    count = 0
    while count < total:
        for message in await reader.fetch(min(1000, total - count), timeout=10):
            count += 1
            if message.subject.startswith("balances."):
                yield message.subject, json.loads(message.data)["sequence"]
    await reader.unsubscribe()
