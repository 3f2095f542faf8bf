"""A ledger: instances of one ordered function, what is stored for them, and what has become of it at the end."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import nats.errors

from runner.core.identity import shard_durable
from tests.support.contents import Standing, contents
from tests.support.eventually import eventually
from tests.support.jetstream import ApiError, RawJetStream, Stored
from tests.support.lapse import Lapse
from tests.support.order import Line, check, check_outputs, story
from tests.support.ownerships import Overheard, check_ownerships
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer
from tests.support.tail import Tail

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
IN_PROCESS = 10158
"""The same message is being stored already."""


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
    """Accounts whose postings must be worked off in order; `instances` run the function."""

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
        self.confirmed: dict[int, tuple[float, float]] = {}
        """When each posting was sent and when it was confirmed, by its number; monotonic."""
        self.lapses: list[Lapse] = []
        """What the server has forgotten."""
        self.told: list[str] = []
        """The faults so far, with their moments."""
        self.problems: list[str] = []
        self.began = time.monotonic()
        self.journal = project.root / "order.log"
        self.journal.touch()
        self._settled: set[tuple[int, int]] = set()
        self._tail = Tail(self.journal)
        self.server_down = asyncio.Lock()
        """Held while the server is killed and started: two faults at once would start two."""

    # -- instances --------------------------------------------------------------------------------------

    def add(self, *, behind_proxy: bool = False, url: str = "", release: Path | None = None) -> Instance:
        """Start one more instance, with a `url` of its own if given, or of another `release` that stands in a folder."""
        used = [each.proxy for each in self.instances]
        proxy = next((each for each in self.proxies if each not in used), None) if behind_proxy else None
        environment = {} if release is None else {"PYTHONPATH": str(release)}
        process = self.project.start(
            "run", NATS_URL=proxy.url if proxy else url or self.url, PYTHONFAULTHANDLER="1", **environment
        )
        instance = Instance(process, proxy)
        self.instances.append(instance)
        return instance

    def replace(self, ended: Instance) -> None:
        """Start another for one that has ended by itself; a problem if it was ready before."""
        self.instances.remove(ended)
        self.unexpected(ended)
        self.add(behind_proxy=ended.proxy is not None)

    async def owning(self, shards: int, *, within: float = 60.0) -> None:
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
        # One that was not ready may have ended for want of a server.
        sound = [each for each in self.instances if not each.troubled and each.process.running]
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
        """Store a posting of an account by luck."""
        await self.store(f"a{self.luck.randrange(10 if self.luck.random() < 0.2 else keys)}", number)

    async def store(self, account: str, number: int) -> None:
        """Store a posting once, whatever happens; each has a number of its own."""
        headers = {"Nats-Msg-Id": f"posting-{number}"}
        while True:
            sent = time.monotonic()
            try:
                sequence = await self.js.publish(
                    f"ledger.{account}.posted", {"number": number}, headers, within=1
                )
                break
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.05)
            except ApiError as error:
                if error.code != IN_PROCESS:
                    raise
                await asyncio.sleep(0.05)
        self.stored.setdefault(account, []).append(sequence)
        self.confirmed[number] = (sent, time.monotonic())

    async def settled(self, *, within: float) -> None:
        """Return once every stored message was done, or failed for the last time."""
        if self.lapses:
            await self._settled_since(within=within)
            return
        total = sum(map(len, self.stored.values()))
        try:
            await eventually(lambda: self.progress() >= total, within=within)
        except AssertionError:
            await self._unsettled(within)

    async def _settled_since(self, *, within: float) -> None:
        """The same of what the stream has now, with every output: the server may have forgotten those, too."""
        standing = {(each.sequence, each.stamp) for each in await contents(self.js, "LEDGER")}

        async def with_outputs() -> bool:
            self.progress()
            if standing - self._settled:
                return False
            letters = {
                (dead_sequence(each), dead_stamp(each)) for each in await self.js.messages("DEADLETTERS")
            }
            outputs = {(sequence, stamp) for _, sequence, stamp in await self._outputs()}
            return not standing - letters - outputs

        try:
            await eventually(with_outputs, within=within)
        except AssertionError:
            await self._unsettled(within)

    async def _unsettled(self, within: float) -> None:
        """Tell what is not done, and how much of it will never be."""
        floors: dict[str, int] = {}
        for name in await self.js.consumers("LEDGER"):
            info = await self.js.consumer("LEDGER", name)
            floors[".".join(name.split("-")[-2:])] = info["ack_floor"]["stream_seq"]
        undone = [
            each
            for each in await contents(self.js, "LEDGER")
            if (each.sequence, each.stamp) not in self._settled
        ]
        passed = sum(each.sequence <= floors.get(each.place, 0) for each in undone)
        self.problems.append(
            f"{len(undone)} messages are not done after {within:g} s, {passed} of them passed over:\n"
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
        for line in map(bytes.decode, self._tail.lines()):
            if line[0] not in "DF":
                continue
            told = Line.read(line)
            if told.kind == "D" or told.attempt >= told.attempts:
                self._settled.add((told.sequence, told.stamp))
        return len(self._settled)

    def longest_pause(self, since: float) -> float:
        """The longest time without a message done, from that moment of Unix time on, in seconds."""
        dones = [
            float(line.split()[6]) for line in self.journal.read_text().splitlines() if line.startswith("D ")
        ]
        moments = [since, *sorted(done for done in dones if done > since)]
        return max((after - before for before, after in itertools.pairwise(moments)), default=0.0)

    # -- what may happen to an instance ----------------------------------------------------------------

    def note(self, text: str) -> None:
        """Remember that something was done."""
        self.told.append(f"{time.time():.3f} {text}")

    async def kill(self) -> bool:
        """SIGKILL an instance; another starts soon."""
        chosen = self.pick()
        if chosen is not None:
            self.kill_now(chosen)
            await asyncio.sleep(self.luck.random() * 0.5)
            self.add(behind_proxy=self.luck.random() < 0.5)
        return chosen is not None

    def kill_now(self, chosen: Instance) -> None:
        """SIGKILL this one."""
        self.note(f"  SIGKILL {chosen.process.pid}")
        self.instances.remove(chosen)
        self.unexpected(chosen)
        chosen.process.kill()
        self.mark(f"K {chosen.process.pid}")

    def mark(self, line: str) -> None:
        """Write a line into the journal, between those of the handlers."""
        with self.journal.open("ab", buffering=0) as file:
            file.write(f"{line}\n".encode())

    def thaw(self, frozen: Instance) -> None:
        """SIGCONT; the journal tells the moment."""
        self.mark(f"T {frozen.process.pid}")
        self.note(f"  SIGCONT {frozen.process.pid}")
        frozen.process.thaw()
        frozen.troubled = False

    # -- the end ----------------------------------------------------------------------------------------

    def unexpected(self, instance: Instance) -> None:
        """It is a problem if this one has ended by itself."""
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
            self.unexpected(instance)
            if instance.process.running:
                instance.process.terminate()
                self.ended.append(instance.process)
        for process in self.ended:
            try:
                self._ended(process, await process.ended(within=60))
            except AssertionError:
                process.signal(signal.SIGABRT)  # the fault handler tells where it hangs
                await process.ended()
                self.problems.append(
                    f"instance {process.pid} does not stop:\n" + "\n".join(process.stderr[-60:])
                )

    async def judge(self, overheard: Overheard | None = None, *, outputs: bool = True) -> str:
        """Check the journal, the outputs and the dead letters; `problems` then has all that is wrong.

        With what was `overheard` of claims it is checked, too, that no owner starts anything behind its successor.
        """
        stored = {key: sorted(sequences) for key, sequences in self.stored.items()}
        standing: list[Standing] = []
        stamps: dict[int, int] | None = None
        found = ""
        if overheard is not None or self.lapses:
            standing = await contents(self.js, "LEDGER")
            stored = self._standing(standing)
            stamps = {each.sequence: each.stamp for each in standing}
        if overheard is not None:
            shards = {each.sequence: each.place for each in standing}
            with self.journal.open() as file:
                ownerships = check_ownerships(file, overheard, shards)
            self.problems += ownerships.late
            found = f"{len(ownerships.late)} late starts, "
        with self.journal.open() as file:
            verdict = check(file, stored, stamps)
        letters = await self.js.messages("DEADLETTERS")
        if stamps is not None:
            letters = [
                letter for letter in letters if stamps.get(dead_sequence(letter)) == dead_stamp(letter)
            ]
        dead = {dead_sequence(letter) for letter in letters}
        blamed = [letter for letter in letters if letter.headers["Jetrunner-Dead-Reason"] != "exhausted"]
        self.problems += [f"dead letter: {letter.headers}" for letter in blamed]
        if len(letters) > len(dead):
            self.problems.append(f"{len(letters) - len(dead)} dead letters stand twice")
        made = [
            (key, sequence)
            for key, sequence, stamp in await self._outputs()
            if stamps is None or stamps.get(sequence) == stamp
        ]
        self.problems += verdict.problems
        if outputs:
            self.problems += check_outputs(made, stored, dead)
        return f"{found}{verdict}; {len(made)} outputs, {len(letters)} dead letters stored"

    async def _outputs(self) -> list[tuple[str, int, int]]:
        """Key, sequence and stamp of the message that each output was made of, in the order of the outputs."""
        found = []
        for each in await contents(self.js, "BALANCES"):
            if each.subject.startswith("balances."):  # others are fences
                output = json.loads(each.body)
                found.append((each.key, output["sequence"], output["stamp"]))
        return found

    def _standing(self, standing: Sequence[Standing]) -> dict[str, list[int]]:
        """The sequences of each key, as the stream has them: a message may stand there without its confirmation."""
        found: dict[str, list[int]] = {}
        for each in standing:
            found.setdefault(each.key, []).append(each.sequence)
        numbers = Counter(json.loads(each.body)["number"] for each in standing)
        for number, (sent, confirmed) in self.confirmed.items():
            if not numbers[number] and not any(lapse.forgot(sent, confirmed) for lapse in self.lapses):
                self.problems.append(f"posting {number}: the server has confirmed it and lost it")
        return found

    def summary(self) -> str:
        """How many problems there are of each kind."""
        kinds = {
            "late starts": r"shard .* already",
            "before an earlier one": r"started before",
            "after a later one": r"started (after|without)",
            "wrong attempt": r"after \d+ failures",
            "never done": r": lost$",
            "outputs missing": r"output is missing",
            "outputs out of order or twice": r"^output of",
            "dead letters": r"^dead letter|stand twice",
            "lost by the server": r"confirmed it and lost it",
        }
        counts = {
            kind: sum(bool(re.search(pattern, each.partition("\n")[0])) for each in self.problems)
            for kind, pattern in kinds.items()
        }
        counts["others"] = len(self.problems) - sum(counts.values())
        return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "in order"

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


def dead_sequence(letter: Stored) -> int:
    """The sequence of the message that a dead letter is about."""
    return int(letter.headers["Jetrunner-Dead-Sequence"])


def dead_stamp(letter: Stored) -> int:
    """When that message was stored, in microseconds of Unix time."""
    return int(letter.headers["Jetrunner-Dead-Timestamp"]) // 1000
