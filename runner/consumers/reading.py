"""Which durables a function without order reads when its subject differs from theirs.

`core/reading.py` decides; this module asks which instances live, and does what was decided. No step passes over a message: a
durable beside the first one is made before the first one is narrowed or removed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import msgspec

from runner.bindings import Binding
from runner.consumers.durables import Durables
from runner.consumers.durablesource import DurableSource, reader
from runner.consumers.places import NARROWED, Places
from runner.consumers.predecessors import SUBJECT, Predecessors
from runner.consumers.turn import Turn, TurnLost
from runner.consumers.usage import SILENT
from runner.core import sharding
from runner.core.reading import (
    Durable,
    Narrow,
    ReadAsIs,
    ReadingStep,
    Refuse,
    Replace,
    WaitForInstance,
    Widen,
    beside,
    decide,
    excluded,
    goes_on,
    progress,
)
from runner.jetstream import consumer, reshard
from runner.jetstream.kv import KV
from runner.runtime.runtime import Runtime
from runner.runtime.snapshots import living, readers, taken

log = logging.getLogger("jetrunner.durables")


class Reading:
    """The durables of one function."""

    def __init__(
        self, runtime: Runtime, durables: Durables, binding: Binding, stream: str, durable: str
    ) -> None:
        self._runtime = runtime
        self._connection = runtime.connection
        self._durables = durables
        self._binding = binding
        self._pattern = binding.subject.wildcard
        self._stream = stream
        self._durable = durable
        self._places = Places(runtime, binding, stream, durable)
        self._apart = runtime.topology.config(stream).get("retention") == "workqueue"
        self._before = Predecessors(
            runtime.connection, runtime.project, binding.function, stream, self._pattern
        )
        self._succeeded = False
        """Whether durables that the function has left were looked at."""
        self._alone = False
        """Whether no other instance read with these durables when last asked."""

    async def settle(self, *, pulls: bool) -> tuple[DurableSource, ...] | WaitForInstance:
        """Make the durables so that no message of the subject is passed over. Gives the durables to read, or the instance to wait for.

        `pulls`: this process already asks for messages of them. Raises UsageError where another function has the same name, and
        JetrunnerError.
        """
        wait = await self._look(pulls=pulls)
        while wait is None:
            runtime = self._runtime
            turn = Turn(KV(self._connection), runtime.project, self._binding.function, runtime.instance)
            try:
                async with turn:
                    return await self._settle(turn, pulls=pulls)
            except TurnLost:
                wait = await self._look(pulls=pulls)
        return wait

    async def _look(self, *, pulls: bool) -> WaitForInstance | None:
        """The instance to wait for, if waiting is all there is to do; this takes no turn."""
        info = await consumer.info(self._connection, self._stream, self._durable) if self._succeeded else None
        main = self._places.of(info) if info is not None else None
        if info is None or main is None or main.subject == self._pattern:
            return None
        step = await self._step(main, info, pulls=pulls)
        return step if isinstance(step, WaitForInstance) else None

    async def _settle(self, turn: Turn, *, pulls: bool) -> tuple[DurableSource, ...] | WaitForInstance:
        while True:
            info = await consumer.info(self._connection, self._stream, self._durable)
            if not self._succeeded and (wait := await self._succeed(turn, info)) is not None:
                return wait
            if info is None:
                await self._make()
                continue
            main = self._places.of(info)
            if main is None:
                floor = await self._left(info) or info["ack_floor"]["stream_seq"]
                log.warning("durable %s had other filters: created again after %d", self._durable, floor)
                await self._remake(turn, floor)
                continue
            if main.subject == self._pattern:
                wanted = self._places.first(self._pattern)
                await self._durables.ensure(self._stream, wanted)
                return (self._places.source(wanted, info),)
            step = await self._step(main, info, pulls=pulls)
            now = await consumer.info(self._connection, self._stream, self._durable)
            if now is None or now["config"] != info["config"]:
                continue
            await turn.confirm()
            match step:
                case Refuse():
                    raise taken(self._binding, step.instance, step.subject)
                case WaitForInstance():
                    return step
                case Narrow():
                    await self._narrow(main, now)
                case Replace():
                    await self._replace(turn, main, now)
                case Widen():
                    found = await self._widen(turn, main, now)
                    if found is not None:
                        return found
                case ReadAsIs():
                    raise AssertionError(step)

    async def _step(self, main: Durable, info: Mapping[str, Any], *, pulls: bool) -> ReadingStep:
        """The next step: other instances say what they read, and the server shows readers that do not answer."""
        runtime, function = self._runtime, self._binding.function
        found = await readers(
            self._connection, runtime.project, function, self._stream, self._durable, me=runtime.instance
        )
        others = {instance: subject or main.subject for instance, subject in found.items()}
        step = decide(self._pattern, main.subject, others, apart=self._apart)
        self._alone = not others and not pulls and not info["num_waiting"]
        if isinstance(step, (Narrow, Replace)) and info["num_waiting"] and not pulls:
            return WaitForInstance(SILENT, main.subject)
        return step

    async def _make(self) -> None:
        """Make the first durable again at its floor, for the subject that it read then. Later steps change its subject."""
        ask = partial(self._durables.floors.last, self._stream, self._durable)
        floor = await self._runtime.histories.bucket.surely(ask)
        subject = floor.subject if floor is not None and floor.subject else self._pattern
        await self._durables.ensure(self._stream, self._places.first(subject), refilter=False)

    async def _succeed(self, turn: Turn, info: Mapping[str, Any] | None) -> WaitForInstance | None:
        """Continue, once, where the function came with other durables; or the instance to wait for."""
        found = await self._before.ordered()
        if not found.ordered and info is None:
            found = await self._before.unordered(self._durable)
        if found.durables or found.ordered:
            for name, part in await living(
                self._connection, self._runtime.project, self._binding.function, self._stream,
                me=self._runtime.instance,
            ):  # fmt: skip
                if (part.get("ordered") and found.ordered) or part["durable"] in found.durables:
                    return WaitForInstance(name, self._pattern)
            log.warning(
                "%s continues after %d, where these durables of an earlier version stood: %s",
                self._binding.function, found.floor, ", ".join(found.durables) or "none is left",
            )  # fmt: skip
            if not self._apart and (info is None or info["ack_floor"]["stream_seq"] < found.floor):
                await self._remake(turn, found.floor)
            await self._before.remove(found)
        self._succeeded = True
        return None

    # -- what is done -----------------------------------------------------------------------------------

    async def _narrow(self, main: Durable, info: Mapping[str, Any]) -> None:
        floor = info["ack_floor"]["stream_seq"]
        rest = await self._leave(main, floor)
        log.warning(
            "durable %s read %s, which no instance reads now: it reads only %s, and the rest waits in %s",
            self._durable, main.subject, self._pattern, rest,
        )  # fmt: skip
        wanted = self._places.first(self._pattern, narrowed=True)
        await consumer.ensure(self._connection, self._stream, wanted, dict(info))
        now = await self._runtime.histories.of(self._stream).check(thorough=False)
        await self._durables.floors.place(self._stream, self._durable, floor, now.newest, self._pattern)

    async def _leave(self, main: Durable, floor: int) -> str:
        """Keep the place of a subject that the first durable leaves, in a durable beside it; its name.

        An existing durable of that name is older, since the first durable has read the whole subject since: it is replaced.
        """
        name = self._places.name(main.subject)
        await consumer.remove(self._connection, self._stream, name)
        wanted = self._places.config(Durable(name, main.subject))
        await self._durables.ensure(self._stream, wanted, refilter=False, after=floor)
        return name

    async def _replace(self, turn: Turn, main: Durable, info: Mapping[str, Any]) -> None:
        floor = info["ack_floor"]["stream_seq"]
        history = self._runtime.histories.of(self._stream)
        now = await history.check(thorough=False)
        if not self._apart:
            known = {
                place: each["ack_floor"]["stream_seq"]
                for place, each in (await self._places.beside()).items()
            }
            if info["delivered"]["stream_seq"] or info["num_pending"]:
                await self._leave(main, floor)
            came = progress(self._pattern, known)
            if came is not None:
                floor = came
            elif not goes_on(self._pattern, main.subject):
                floor = now.last if self._binding.deliver == "new" else 0
        log.warning(
            "durable %s read %s, which no instance reads now: it is created again for %s, after %d",
            self._durable, main.subject, self._pattern, floor,
        )  # fmt: skip
        await self._remake(turn, floor)
        if not self._apart:
            await consumer.remove(self._connection, self._stream, self._places.name(self._pattern))

    async def _widen(
        self, turn: Turn, main: Durable, info: Mapping[str, Any]
    ) -> tuple[DurableSource, ...] | None:
        """The durables to read; None once a single durable reads the whole subject."""
        known = await self._places.beside()
        ours, lacking = beside(self._pattern, main, tuple(known))
        if lacking is not None:
            place = msgspec.structs.replace(lacking, durable=self._places.name(self._pattern))
            start = await self._start(info)
            await self._durables.ensure(self._stream, self._places.config(place, start=start), refilter=False)
            log.warning(
                "%s reads %s, but its durable %s only %s: durable %s reads the rest",
                self._binding.function, self._pattern, self._durable, main.subject, place.durable,
            )  # fmt: skip
            ours = (*ours, place)
        elif self._is_free(known, ours) and await self._done(main, info, ours, known):
            log.info("durable %s reads all of %s from now on", self._durable, self._pattern)
            # All stored messages of these durables are settled; new ones get higher sequences than any that were delivered.
            await self._remake(turn, max(known[each]["delivered"]["stream_seq"] for each in ours))
            for each in ours:
                await consumer.remove(self._connection, self._stream, each.durable)
            return None
        wanted = self._places.first(main.subject)
        await self._durables.ensure(self._stream, wanted, refilter=False)
        sources = [self._places.source(wanted, info)]
        for place in ours:
            wanted = self._places.config(place)
            await self._durables.ensure(self._stream, wanted, refilter=False)
            sources.append(DurableSource(wanted, reader(place.subject, excluded(place, main, ours))))
        return tuple(sources)

    def _is_free(self, known: Mapping[Durable, Mapping[str, Any]], ours: tuple[Durable, ...]) -> bool:
        return self._alone and not any(known[each]["num_waiting"] for each in ours)

    async def _start(self, info: Mapping[str, Any]) -> int:
        """The first sequence of a durable beside the first one; 0: where the function begins."""
        floor = await self._left(info)
        return floor + 1 if floor else 0

    async def _left(self, info: Mapping[str, Any]) -> int:
        """The last sequence up to which a durable has read the whole subject before somebody changed its filter; 0: not known."""
        metadata = info["config"].get("metadata") or {}
        if NARROWED in metadata or metadata.get(SUBJECT) != self._pattern:
            return 0
        ask = partial(self._durables.floors.last, self._stream, self._durable)
        floor = await self._runtime.histories.bucket.surely(ask)
        return floor.sequence if floor is not None else 0

    async def _done(
        self,
        main: Durable,
        info: Mapping[str, Any],
        ours: tuple[Durable, ...],
        known: Mapping[Durable, Mapping[str, Any]],
    ) -> bool:
        """Whether these durables have settled all messages stored for them. No instance reads with them now."""
        for place, each in ((main, info), *((place, known[place]) for place in ours)):
            if each["num_pending"] or each["num_ack_pending"]:
                return False
            for text in sharding.filters(place.subject) if self._places.sharded else (place.subject,):
                if await reshard.last(self._connection, self._stream, text) > each["delivered"]["stream_seq"]:
                    return False
        return True

    async def _remake(self, turn: Turn, floor: int) -> None:
        """Make the first durable again, for the present subject; it begins after the floor."""
        await turn.confirm()
        now = await self._runtime.histories.of(self._stream).check(thorough=False)
        with anyio.CancelScope(shield=True):
            await self._durables.floors.place(self._stream, self._durable, floor, now.newest, self._pattern)
            await consumer.remove(self._connection, self._stream, self._durable)
            wanted = self._places.first(self._pattern)
            await self._durables.ensure(self._stream, wanted, refilter=False, after=floor)
