"""A ledger on a server whose files can be put back to an older copy: what a restored backup or a lost tail leaves."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tests.support.eventually import eventually
from tests.support.jetstream import ApiError, RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

KEYS = 4
Consumers = Literal["older", "none", "newer"]
"""What becomes of a stream's durables when its messages go back: they do, too, or are gone, or stay as they were."""

FUNCTIONS = """
    import asyncio
    from pathlib import Path
    from journal import note
    from runner import Context, RetryPolicy, consume

    async def gate(entry: dict) -> None:
        while "gate" in entry and not Path(entry["gate"]).exists():
            await asyncio.sleep(0.01)

    @consume("ledger.{account}.posted", ordered_by="account", deliver="DELIVER",
             retry=RetryPolicy.fixed(0.02, attempts=3), ON_EXHAUSTED)
    async def post(entry: dict, account: str, ctx: Context) -> None:
        note("start", n=entry["n"], attempt=ctx.attempt)
        if entry.get("fails", 0) >= ctx.attempt and not Path("mended").exists():
            raise ValueError("not today")
        await gate(entry)
        note("post", n=entry["n"], account=account, attempt=ctx.attempt)
"""
FREE = """
    @consume("ledger.{account}.posted", deliver="DELIVER", retry=RetryPolicy.fixed(0.02, attempts=3))
    async def copy(entry: dict, ctx: Context) -> None:
        if entry.get("fails", 0) >= ctx.attempt and not Path("mended").exists():
            raise ValueError("not today")
        await gate(entry)
        note("copy", n=entry["n"], attempt=ctx.attempt)
        if later := entry.get("later"):
            number = entry["n"] + later
            ctx.publish(f"ledger.a{number % 4}.posted", {"n": number}, delay=0.2)
"""


class Book:
    """A stream `LEDGER`, an ordered function `post` on it and, where the stream allows two, an unordered `copy`."""

    def __init__(
        self, server: NatsServer, js: RawJetStream, make_project: Callable[..., Project], directory: Path
    ) -> None:
        self.server = server
        self.js = js
        self.directory = directory
        self.functions: tuple[str, ...] = ("post", "copy")
        self._started: list[RunnerProcess] = []
        self._make_project = make_project
        self._copies = itertools.count()
        self.project: Project

    async def open(
        self,
        *,
        shards: int = 0,
        retention: str = "limits",
        deliver: str = "all",
        on_exhausted: str = "dead_letter",
        storage: str = "file",
    ) -> None:
        """Write the project and make its stream."""
        if retention == "workqueue":
            self.functions = ("post",)
        source = FUNCTIONS + (FREE if "copy" in self.functions else "")
        stream = (
            f'name = "LEDGER"\nsubjects = ["ledger.{{account}}.posted"]\nretention = "{retention}"\n'
            f'storage = "{storage}"\n'
        )
        if shards:
            stream += f'[shards]\ncount = {shards}\nby = ["account"]\n'
        self.project = self._make_project(
            functions={
                "ledger": source.replace("DELIVER", deliver).replace(
                    "ON_EXHAUSTED", f'on_exhausted="{on_exhausted}"'
                )
            },
            streams={"ledger": stream},
            nats=self.server.url,
        )
        await self.project.applied()

    # -- what happens ----------------------------------------------------------------------------------

    async def start(self, *, instances: int = 1) -> list[RunnerProcess]:
        """Start so many `runner run` and return once their durables are read."""
        started = [self.project.start("run") for _ in range(instances)]
        self._started += started
        for process in started:
            await process.seen("ready: ")
        await eventually(self.reads)
        return started

    async def reads(self) -> bool:
        """Whether every durable of the stream is pulled from."""
        names = [each for each in await self.js.consumers("LEDGER") if each.startswith("shop-")]
        infos = [await self.js.consumer("LEDGER", name) for name in names]
        return len(names) >= len(self.functions) and all(info["num_waiting"] for info in infos)

    async def post(self, numbers: Iterable[int], **fields: Any) -> None:
        """Publish entries; each is confirmed."""
        for number in numbers:
            subject = f"ledger.a{number % KEYS}.posted"
            await eventually(partial(self.js.publish, subject, {"n": number, **fields}))

    async def stop(self, processes: Iterable[RunnerProcess]) -> None:
        """SIGTERM, and wait for the end."""
        for process in processes:
            process.terminate()
        for process in processes:
            assert await process.ended() == 0, process.output

    async def copied(self) -> Path:
        """A copy of the whole store as it is now; the server is away for a moment."""
        await asyncio.to_thread(self.server.stop)
        copy = self.directory / f"copy-{next(self._copies)}"
        await asyncio.to_thread(shutil.copytree, self.server.store, copy)
        await asyncio.to_thread(self.server.start)
        return copy

    async def put_back(
        self,
        copy: Path,
        streams: Iterable[str] = ("LEDGER",),
        *,
        consumers: Consumers = "older",
        kill: bool = False,
        start: bool = True,
    ) -> None:
        """Stop the server, put these streams back to the copy, and start it again."""
        await asyncio.to_thread(self.server.kill if kill else self.server.stop)
        for stream in streams:
            await asyncio.to_thread(self._replace, copy, stream, consumers)
        if start:
            await asyncio.to_thread(self.server.start)

    async def put_all_back(self, copy: Path) -> None:
        """The same with the whole store."""
        await asyncio.to_thread(self.server.stop)
        await asyncio.to_thread(shutil.rmtree, self.server.store)
        await asyncio.to_thread(shutil.copytree, copy, self.server.store)
        await asyncio.to_thread(self.server.start)

    def _replace(self, copy: Path, stream: str, consumers: Consumers) -> None:
        now = next(self.server.store.rglob(f"streams/{stream}"))
        then = copy / now.relative_to(self.server.store)
        kept = self.directory / "durables"
        shutil.rmtree(kept, ignore_errors=True)
        if consumers == "newer" and (now / "obs").exists():
            shutil.move(now / "obs", kept)
        shutil.rmtree(now)
        shutil.copytree(then, now)
        if consumers != "older":
            shutil.rmtree(now / "obs", ignore_errors=True)
        if kept.exists():
            shutil.move(kept, now / "obs")

    # -- what became of it -----------------------------------------------------------------------------

    def runs(self, function: str) -> list[int]:
        """The numbers that a function has done, in order."""
        return [note["n"] for note in self.project.journal(function)]

    async def ran(self, numbers: Iterable[int], *, within: float = 60.0) -> None:
        """Each of these has run in every function, in the order of its key, and none is a dead letter."""
        wanted = list(numbers)
        try:
            await eventually(
                lambda: all(set(wanted) <= set(self.runs(each)) for each in self.functions), within=within
            )
        except AssertionError:
            lacking = {each: sorted(set(wanted) - set(self.runs(each))) for each in self.functions}
            raise AssertionError(f"never ran: {lacking}") from None
        for key in range(KEYS):
            mine = [number for number in wanted if number % KEYS == key]
            done = [number for number in self.runs("post") if number in mine]
            assert list(dict.fromkeys(done)) == mine, f"out of order: {done}"
        assert await self.js.count("DEADLETTERS") == 0

    def once(self, numbers: Iterable[int]) -> None:
        """Each of these ran exactly once.

        What an owner ran that stood still until its shard was taken, and says so, may run again at the next one.
        """
        taken = {each.pid for each in self._started if "another instance owns shard" in each.output}
        for function in self.functions:
            runs = self.runs(function)
            sure = [note["n"] for note in self.project.journal(function) if note["pid"] not in taken]
            assert set(numbers) <= set(runs), (function, runs)
            counts = {number: count for number in numbers if (count := sure.count(number)) > 1}
            assert not counts, (function, counts, runs)

    async def started(self, number: int) -> None:
        """Return once the ordered function has begun with this one."""
        await eventually(lambda: number in self.runs("start"))

    async def settled(self, *, within: float = 60.0) -> None:
        """Return once nothing waits for any function, and nothing is in work."""
        await eventually(self._settled, within=within)

    async def _settled(self) -> bool:
        names = [each for each in await self.js.consumers("LEDGER") if each.startswith("shop-")]
        return bool(names) and all([await self.js.settled("LEDGER", name) for name in names])

    async def floors(self) -> dict[str, int]:
        """What is remembered of each durable of the stream."""
        kept = await self.js.messages("KV_jetrunner", "$KV.jetrunner.floor.shop.LEDGER.*")
        return {each.subject.rpartition(".")[2]: each.json()["sequence"] for each in kept if each.body}

    async def remembered(self, sequence: int) -> None:
        """Return once every function's floor is remembered to be this high; a sharded one's highest."""

        async def known() -> bool:
            floors = await self.floors()
            heights = [
                max((high for name, high in floors.items() if name.startswith(f"shop-{each}")), default=0)
                for each in self.functions
            ]
            return min(heights) >= sequence

        await eventually(known)

    # -- backups by the server's own API ---------------------------------------------------------------

    async def snapshot(self, stream: str, *, consumers: bool = True) -> tuple[dict[str, Any], list[bytes]]:
        """A backup as `nats stream backup` makes it."""
        inbox = self.js.client.new_inbox()
        chunks = await self.js.client.subscribe(inbox)
        ask = {"deliver_subject": inbox, "chunk_size": 1 << 16, "no_consumers": not consumers}
        told = await self.js.api(f"STREAM.SNAPSHOT.{stream}", ask)
        found: list[bytes] = []
        while (chunk := await chunks.next_msg(60)).data:
            found.append(chunk.data)
            if chunk.reply:
                await self.js.client.publish(chunk.reply, b"")
        await chunks.unsubscribe()
        return told, found

    async def restore(self, stream: str, backup: tuple[dict[str, Any], list[bytes]]) -> None:
        """Delete the stream and restore the backup, as `nats stream restore` does."""
        told, chunks = backup
        await self.js.api(f"STREAM.DELETE.{stream}")
        place = await self.js.api(f"STREAM.RESTORE.{stream}", {key: told[key] for key in ("config", "state")})
        for chunk in (*chunks, b""):
            answer = await self.js.client.request(place["deliver_subject"], chunk, timeout=5)
        assert "error" not in json.loads(answer.data), answer.data

    async def delete(self, stream: str) -> dict[str, Any]:
        """Delete a stream; its configuration."""
        config: dict[str, Any] = (await self.js.stream(stream))["config"]
        await self.js.api(f"STREAM.DELETE.{stream}")
        return config

    async def gone(self, stream: str, durable: str) -> bool:
        """Whether a durable is not there."""
        try:
            await self.js.consumer(stream, durable)
        except ApiError:
            return True
        return False
