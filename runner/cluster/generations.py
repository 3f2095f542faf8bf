"""The open generation of every ordered function, as this process knows it, and its share in moving on to the next.

One instance of a function steps (`turnover`); all read what stands in the bucket: when they hear of a change, and every
two seconds in case nobody could say anything. `runner shard resize` says so when it has changed a stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from runner.cluster.members import Members
from runner.cluster.rollover import Reader, Rollover
from runner.core.assignment import assign
from runner.core.generation import OpenGeneration
from runner.errors import JetrunnerError, UsageError
from runner.jetstream.kv import KV
from runner.jetstream.publisher import retry_until
from runner.runtime.histories import START_SECONDS
from runner.runtime.runtime import Runtime

if TYPE_CHECKING:
    from runner.ordered.function import OrderedFunction

log = logging.getLogger("jetrunner.shards")

READ_SECONDS = 2.0
DRAINING_SECONDS = 0.25
CLOSING_SECONDS = 0.02


def news_subject(project: str) -> str:
    """Where it is said that a stream has been resized."""
    return f"jetrunner.{project}.resized"


class Generations:
    """Keeps `open_generation` of the functions of this process what it is in the bucket."""

    def __init__(
        self,
        runtime: Runtime,
        members: Members,
        functions: Sequence[OrderedFunction],
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
        """Read what is open; where nothing is yet, open it. Raises JetrunnerError where that cannot be."""
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
        """Look at all functions, whenever there may be something new, until cancelled."""
        pause = 0.0
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
                try:
                    await self._look(function, step=self._steps(function.binding.function))
                except JetrunnerError as error:
                    log.warning("the shards of %s cannot be looked at: %s", function.binding.function, error)
                pause = min(pause, self._pause(function.open_generation))

    def names(self) -> list[str]:
        """`<function>.<generation>` of what is open, or was until just now."""
        return [
            f"{function.binding.function}.{function.open_generation.generation}"
            for function in self._functions
            if function.open_generation is not None
        ]

    async def confirmed(self, function: OrderedFunction, generation: int) -> bool:
        """Whether a generation is open, as the bucket has it now; asked after a claim of it was written."""
        try:
            current = await self._look(function, step=False)
            while current is None:  # the bucket has lost it
                current = await self._look(function, step=True)
        except UsageError as error:
            log.warning("%s", error)
            return False
        return not current.closing and current.generation == generation

    async def _look(self, function: OrderedFunction, *, step: bool) -> OpenGeneration | None:
        """What stands now; None where nothing does, or somebody else was faster to step."""
        name = function.binding.function
        reader = Reader(
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
        """Whether it is for this instance to step; nothing breaks when two think so."""
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
