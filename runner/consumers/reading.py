"""Which durables a function without order reads when its subject is another one than theirs.

What is decided stands in `core/reading.py`; here it is asked who lives, and done. Nothing that is done here passes over a message:
a durable beside the first one stands before that one is narrowed or removed.
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
from runner.consumers.places import NARROWED, Places
from runner.consumers.predecessors import SUBJECT, Predecessors
from runner.consumers.source import Source, reader
from runner.consumers.turn import Turn, TurnLost
from runner.consumers.usage import SILENT
from runner.core import sharding
from runner.core.reading import (
    Narrow,
    Place,
    Read,
    Refuse,
    Replace,
    Step,
    Wait,
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
        """Whether what the function has left with other durables is looked at."""
        self._alone = False
        """Whether no other instance read with these durables when that was last asked."""

    async def settle(self, *, pulls: bool) -> tuple[Source, ...] | Wait:
        """Make the durables such that nothing of the subject is passed over; those to read, or who goes before.

        `pulls` tells whether this process asks for messages of them already. Raises UsageError where another function has
        the same name, and JetrunnerError.
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

    async def _look(self, *, pulls: bool) -> Wait | None:
        """Who goes before, if that is all there is to be said: nobody's turn is taken for it."""
        info = await consumer.info(self._connection, self._stream, self._durable) if self._succeeded else None
        main = self._places.of(info) if info is not None else None
        if info is None or main is None or main.subject == self._pattern:
            return None
        step = await self._step(main, info, pulls=pulls)
        return step if isinstance(step, Wait) else None

    async def _settle(self, turn: Turn, *, pulls: bool) -> tuple[Source, ...] | Wait:
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
                log.warning("durable %s had other filters: it is made again after %d", self._durable, floor)
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
                case Wait():
                    return step
                case Narrow():
                    await self._narrow(main, now)
                case Replace():
                    await self._replace(turn, main, now)
                case Widen():
                    found = await self._widen(turn, main, now)
                    if found is not None:
                        return found
                case Read():
                    raise AssertionError(step)

    async def _step(self, main: Place, info: Mapping[str, Any], *, pulls: bool) -> Step:
        """What is to be done, by what the others say, and by what the server knows of those that say nothing."""
        runtime, function = self._runtime, self._binding.function
        found = await readers(
            self._connection, runtime.project, function, self._stream, self._durable, me=runtime.instance
        )
        others = {instance: subject or main.subject for instance, subject in found.items()}
        step = decide(self._pattern, main.subject, others, apart=self._apart)
        self._alone = not others and not pulls and not info["num_waiting"]
        if isinstance(step, (Narrow, Replace)) and info["num_waiting"] and not pulls:
            return Wait(SILENT, main.subject)
        return step

    async def _make(self) -> None:
        """Make the first durable where it was, for the subject that it read then: what becomes of it is decided after that."""
        ask = partial(self._durables.floors.last, self._stream, self._durable)
        floor = await self._runtime.histories.bucket.surely(ask)
        subject = floor.subject if floor is not None and floor.subject else self._pattern
        await self._durables.ensure(self._stream, self._places.first(subject), refilter=False)

    async def _succeed(self, turn: Turn, info: Mapping[str, Any] | None) -> Wait | None:
        """Go on where the function has come with other durables, once; or who goes before."""
        found = await self._before.ordered()
        if not found.ordered and info is None:
            found = await self._before.unordered(self._durable)
        if found.durables or found.ordered:
            for name, part in await living(
                self._connection, self._runtime.project, self._binding.function, self._stream,
                me=self._runtime.instance,
            ):  # fmt: skip
                if (part.get("ordered") and found.ordered) or part["durable"] in found.durables:
                    return Wait(name, self._pattern)
            log.warning(
                "%s goes on after %d, where it has come with other durables: %s",
                self._binding.function, found.floor, ", ".join(found.durables) or "none is left",
            )  # fmt: skip
            if not self._apart and (info is None or info["ack_floor"]["stream_seq"] < found.floor):
                await self._remake(turn, found.floor)
            await self._before.remove(found)
        self._succeeded = True
        return None

    # -- what is done -----------------------------------------------------------------------------------

    async def _narrow(self, main: Place, info: Mapping[str, Any]) -> None:
        floor = info["ack_floor"]["stream_seq"]
        rest = await self._leave(main, floor)
        log.warning(
            "durable %s has read %s, which no instance does now: it reads %s alone, and the rest waits in %s",
            self._durable, main.subject, self._pattern, rest,
        )  # fmt: skip
        wanted = self._places.first(self._pattern, narrowed=True)
        await consumer.ensure(self._connection, self._stream, wanted, dict(info))
        now = await self._runtime.histories.of(self._stream).check(thorough=False)
        await self._durables.floors.place(self._stream, self._durable, floor, now.newest, self._pattern)

    async def _leave(self, main: Place, floor: int) -> str:
        """Remember in a durable beside it where a subject of the first one was left; its name.

        One that stands there already is older: the first durable has read all of the subject since.
        """
        name = self._places.name(main.subject)
        await consumer.remove(self._connection, self._stream, name)
        wanted = self._places.config(Place(name, main.subject))
        await self._durables.ensure(self._stream, wanted, refilter=False, after=floor)
        return name

    async def _replace(self, turn: Turn, main: Place, info: Mapping[str, Any]) -> None:
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
            "durable %s has read %s, which no instance does now: it is made again for %s, after %d",
            self._durable, main.subject, self._pattern, floor,
        )  # fmt: skip
        await self._remake(turn, floor)
        if not self._apart:
            await consumer.remove(self._connection, self._stream, self._places.name(self._pattern))

    async def _widen(self, turn: Turn, main: Place, info: Mapping[str, Any]) -> tuple[Source, ...] | None:
        """What is to be read; None once one durable reads all of it."""
        known = await self._places.beside()
        ours, lacking = beside(self._pattern, main, tuple(known))
        if lacking is not None:
            place = msgspec.structs.replace(lacking, durable=self._places.name(self._pattern))
            start = await self._start(info)
            await self._durables.ensure(self._stream, self._places.config(place, start=start), refilter=False)
            log.warning(
                "%s reads %s, and its durable %s only %s: %s reads the rest",
                self._binding.function, self._pattern, self._durable, main.subject, place.durable,
            )  # fmt: skip
            ours = (*ours, place)
        elif self._is_free(known, ours) and await self._done(main, info, ours, known):
            log.info("durable %s reads all of %s from now on", self._durable, self._pattern)
            # All that is stored for any of them is settled; what comes now has a higher number than any has delivered.
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
            sources.append(Source(wanted, reader(place.subject, excluded(place, main, ours))))
        return tuple(sources)

    def _is_free(self, known: Mapping[Place, Mapping[str, Any]], ours: tuple[Place, ...]) -> bool:
        return self._alone and not any(known[each]["num_waiting"] for each in ours)

    async def _start(self, info: Mapping[str, Any]) -> int:
        """Where a durable beside the first one begins; 0: where the function does."""
        floor = await self._left(info)
        return floor + 1 if floor else 0

    async def _left(self, info: Mapping[str, Any]) -> int:
        """Up to where a durable has read all of the subject, whose filter somebody else has changed since; 0: not known."""
        metadata = info["config"].get("metadata") or {}
        if NARROWED in metadata or metadata.get(SUBJECT) != self._pattern:
            return 0
        ask = partial(self._durables.floors.last, self._stream, self._durable)
        floor = await self._runtime.histories.bucket.surely(ask)
        return floor.sequence if floor is not None else 0

    async def _done(
        self,
        main: Place,
        info: Mapping[str, Any],
        ours: tuple[Place, ...],
        known: Mapping[Place, Mapping[str, Any]],
    ) -> bool:
        """Whether all of these durables have settled all that is stored for them. No instance reads with them now."""
        for place, each in ((main, info), *((place, known[place]) for place in ours)):
            if each["num_pending"] or each["num_ack_pending"]:
                return False
            for text in sharding.filters(place.subject) if self._places.sharded else (place.subject,):
                if await reshard.last(self._connection, self._stream, text) > each["delivered"]["stream_seq"]:
                    return False
        return True

    async def _remake(self, turn: Turn, floor: int) -> None:
        """Make the first durable again, for the subject of now; it begins after the floor."""
        await turn.confirm()
        now = await self._runtime.histories.of(self._stream).check(thorough=False)
        with anyio.CancelScope(shield=True):
            await self._durables.floors.place(self._stream, self._durable, floor, now.newest, self._pattern)
            await consumer.remove(self._connection, self._stream, self._durable)
            wanted = self._places.first(self._pattern)
            await self._durables.ensure(self._stream, wanted, refilter=False, after=floor)
