"""The open generation of every ordered function, as this process knows it, and the steps to the next one.

One instance of a function steps (`rollover.py`). All instances read the bucket when a change is announced, and every 2 s in case
an announcement was lost. `runner shard resize` announces a changed stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from runner.cluster.members import Members
from runner.cluster.rollover import OrderedReader, Rollover
from runner.core.assignment import assign
from runner.core.generation import OpenGeneration
from runner.core.news import News
from runner.errors import JetrunnerError, UsageError
from runner.jetstream.kv import KV
from runner.jetstream.publisher import retry_until
from runner.runtime.histories import START_SECONDS
from runner.runtime.runtime import Runtime

if TYPE_CHECKING:
    from runner.ordered.functionshards import FunctionShards

log = logging.getLogger("jetrunner.shards")

READ_SECONDS = 2.0
DRAINING_SECONDS = 0.25
CLOSING_SECONDS = 0.02


def news_subject(project: str) -> str:
    """The subject on which the resize of a stream is announced."""
    return f"jetrunner.{project}.resized"


class Generations:
    """Keeps `open_generation` of this process's functions equal to the bucket's."""

    def __init__(
        self,
        runtime: Runtime,
        members: Members,
        functions: Sequence[FunctionShards],
        changed: Callable[[], None],
    ) -> None:
        self._connection = runtime.connection
        self._project = runtime.project
        self._members = members
        self._functions = functions
        self._changed = changed
        self._turnover = Rollover(runtime.connection, runtime.project, runtime.histories.of, runtime.instance)
        self._kv = KV(runtime.connection)
        self._due = asyncio.Event()

    async def start(self) -> None:
        """Read the open generation of each function, or open the first one. Raises JetrunnerError if that fails."""
        await self._kv.watch(
            self._turnover.open_generations.prefix + ">", lambda _key, _value: self._due.set()
        )
        await self._connection.wire.subscribe(news_subject(self._project), lambda *_: self._due.set())
        for function in self._functions:
            name = function.binding.function
            while function.open_generation is None and not function.held:
                await retry_until(
                    partial(self._look, function, step=True), START_SECONDS, f"the shards of {name}"
                )

    async def run(self) -> None:
        """Check all functions, at every announcement and at intervals, until cancelled."""
        news, pause = News(), 0.0
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            pause = READ_SECONDS
            if not self._connection.is_connected:
                pause = DRAINING_SECONDS
                continue
            for function in self._functions:
                if function.held:
                    pause = min(pause, DRAINING_SECONDS)
                    continue
                name = function.binding.function
                try:
                    await self._look(function, step=self._steps(name))
                    news.over(name)
                except JetrunnerError as error:
                    news.warn(log, "cannot read the shards of %s: %s", name, error, about=name)
                pause = min(pause, self._pause(function.open_generation))

    def names(self) -> list[str]:
        """`<function>.<generation>` of each generation that is open, or was until just now."""
        return [
            f"{function.binding.function}.{function.open_generation.generation}"
            for function in self._functions
            if function.open_generation is not None
        ]

    async def confirmed(self, function: FunctionShards, generation: int) -> bool:
        """Whether a generation is open by the bucket now; called after one of its claims was written."""
        try:
            current = await self._look(function, step=False)
            while current is None:  # the bucket has lost the record
                current = await self._look(function, step=True)
        except UsageError as error:
            log.warning("%s", error)
            return False
        return not current.closing and current.generation == generation

    async def _look(self, function: FunctionShards, *, step: bool) -> OpenGeneration | None:
        """Read the open generation, with `step` after a step; None if there is none, or another instance was faster to step."""
        name = function.binding.function
        reader = OrderedReader(
            name,
            function.stream,
            function.binding.subject.wildcard,
            function.binding.deliver,
            function.binding.key_positions,
        )
        if step:
            found = await self._turnover.step(reader, self._members.gone)
        else:
            found, _ = await self._turnover.open_generations.read(name)
        if found is not None and found != function.open_generation:
            function.open_generation = reader.require(found)
            self._changed()
        return found

    def _steps(self, function: str) -> bool:
        """Whether this instance is the one to step; it does no harm if two instances think so."""
        able = [name for name, member in self._members.living.items() if member.takes(function)]
        return assign([function], able).get(function) == self._members.me.instance

    def _pause(self, current: OpenGeneration | None) -> float:
        if current is None:
            return DRAINING_SECONDS
        if current.closing:
            return CLOSING_SECONDS
        return (
            READ_SECONDS
            if self._turnover.newest.get(current.stream, current.generation) == current.generation
            else DRAINING_SECONDS
        )
