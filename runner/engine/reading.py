"""The durables that a function without order reads, once its subject may be another than theirs.

What is decided stands in `core/reading.py`; here it is asked who lives, and done. Nothing that is done here passes over a message:
a durable beside the first one stands before that one is narrowed or removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from runner.bindings import Binding
from runner.core import sharding
from runner.core.plan import ALSO
from runner.core.reading import Narrow, Place, Read, Refuse, Replace, Wait, Widen, beside, decide, goes_on
from runner.engine.durables import Durables
from runner.engine.predecessors import PROJECT, SUBJECT, Predecessors
from runner.engine.process import Process
from runner.engine.snapshots import living, readers, taken
from runner.engine.source import Source, reader
from runner.jetstream import consumer, reshard
from runner.jetstream.consumer import ConsumerConfig
from runner.jetstream.inventory import consumers_on, published

log = logging.getLogger("jetrunner.durables")

WITHOUT = "jetrunner.without"
"""Of a durable beside another: the subjects that it leaves to others, as a JSON list."""
NARROWED = "jetrunner.narrowed"
"""Of a durable that read more before: what it has delivered of that comes again, and is not its own any more."""


class Reading:
    """The durables of one function."""

    def __init__(
        self, process: Process, durables: Durables, binding: Binding, stream: str, durable: str
    ) -> None:
        self._process = process
        self._connection = process.connection
        self._durables = durables
        self._binding = binding
        self._pattern = binding.subject.wildcard
        self._stream = stream
        self._durable = durable
        config = process.topology.config(stream)
        self._sharded = sharding.read(config) is not None
        self._captured = config.get("subjects") or ()
        self._apart = config.get("retention") == "workqueue"
        self._before = Predecessors(
            process.connection, process.project, binding.function, stream, self._pattern
        )
        self._succeeded = False
        """Whether what the function has left with other durables is looked at."""

    async def settle(self) -> tuple[Source, ...] | Wait:
        """Make the durables such that nothing of the subject is passed over; those to read, or who goes before.

        Raises UsageError where another function has the same name, and JetrunnerError.
        """
        while True:
            info = await consumer.info(self._connection, self._stream, self._durable)
            if not self._succeeded and (wait := await self._succeed(info)) is not None:
                return wait
            if info is None:
                await self._durables.ensure(self._stream, self._main(self._pattern), refilter=False)
                continue
            main = self._place(info)
            if main is None and (floor := await self._left(info)):
                log.warning("durable %s had other filters: it is made again after %d", self._durable, floor)
                await self._remake(floor)
                continue
            if main is None or main.subject == self._pattern:
                return (self._source(self._main(self._pattern), info),)
            others = await self._others(main.subject)
            step = decide(self._pattern, main.subject, others, apart=self._apart)
            match step:
                case Refuse():
                    raise taken(self._binding, step.instance, step.subject)
                case Wait():
                    return step
                case Narrow():
                    await self._narrow(main, info)
                case Replace():
                    await self._replace(main, info)
                case Widen():
                    found = await self._widen(main, info, alone=not others)
                    if found is not None:
                        return found
                case Read():
                    raise AssertionError(step)

    async def _succeed(self, info: Mapping[str, Any] | None) -> Wait | None:
        """Go on where the function has come with other durables, once; or who goes before."""
        found = await self._before.ordered()
        if not found.ordered and info is None:
            found = await self._before.unordered(self._durable)
        if found.durables or found.ordered:
            for name, part in await living(
                self._connection, self._process.project, self._binding.function, self._stream
            ):
                if (part.get("ordered") and found.ordered) or part["durable"] in found.durables:
                    return Wait(name, self._pattern)
            log.warning(
                "%s goes on after %d, where it has come with other durables: %s",
                self._binding.function, found.floor, ", ".join(found.durables) or "none is left",
            )  # fmt: skip
            if self._apart:
                await self._before.remove(found)
            elif info is None or info["ack_floor"]["stream_seq"] < found.floor:
                await self._remake(found.floor)
            await self._before.remove(found)
        self._succeeded = True
        return None

    # -- who lives --------------------------------------------------------------------------------------

    async def _others(self, standing: str) -> dict[str, str]:
        """The subjects of the other instances that read with this durable; one that does not tell reads as it stands."""
        return await readers(
            self._connection,
            self._process.project,
            self._binding.function,
            self._stream,
            self._durable,
            standing,
        )

    # -- what is done -----------------------------------------------------------------------------------

    async def _narrow(self, main: Place, info: Mapping[str, Any]) -> None:
        rest = Place(self._name(main.subject), main.subject, (self._pattern,))
        floor = info["ack_floor"]["stream_seq"]
        await self._durables.ensure(self._stream, self._config(rest, start=floor + 1), refilter=False)
        log.warning(
            "durable %s has read %s, which no instance does now: it reads %s alone, and the rest waits in %s",
            self._durable, main.subject, self._pattern, rest.durable,
        )  # fmt: skip
        wanted = self._main(self._pattern, narrowed=True)
        await consumer.ensure(self._connection, self._stream, wanted, dict(info))

    async def _replace(self, main: Place, info: Mapping[str, Any]) -> None:
        floor = info["ack_floor"]["stream_seq"]
        history = self._process.histories.of(self._stream)
        now = await history.check(thorough=False)
        back = None
        if not self._apart:
            if info["delivered"]["stream_seq"] or info["num_pending"]:
                before = Place(self._name(main.subject), main.subject)
                await self._durables.ensure(
                    self._stream, self._config(before, start=floor + 1), refilter=False
                )
            back = await consumer.info(self._connection, self._stream, self._name(self._pattern))
            if back is not None:
                floor = back["ack_floor"]["stream_seq"]
            elif not goes_on(self._pattern, main.subject):
                floor = now.last if self._binding.deliver == "new" else 0
        log.warning(
            "durable %s has read %s, which no instance does now: it is made again for %s",
            self._durable, main.subject, self._pattern,
        )  # fmt: skip
        await self._remake(floor)
        if back is not None:
            await consumer.remove(self._connection, self._stream, back["name"])

    async def _widen(self, main: Place, info: Mapping[str, Any], *, alone: bool) -> tuple[Source, ...] | None:
        """What is to be read; None once one durable reads all of it."""
        infos = {
            each["name"]: each
            for each in await consumers_on(self._connection, self._stream)
            if each["name"].startswith(f"{self._durable}-{ALSO}-")
        }
        known = [place for each in infos.values() if (place := self._place(each)) is not None]
        ours, lacking = beside(self._pattern, main, known)
        if lacking is not None:
            place = msgspec.structs.replace(lacking, durable=self._name(self._pattern))
            start = await self._start(info)
            await self._durables.ensure(self._stream, self._config(place, start=start), refilter=False)
            log.warning(
                "%s reads %s, and its durable %s only %s: %s reads the rest",
                self._binding.function, self._pattern, self._durable, main.subject, place.durable,
            )  # fmt: skip
            ours = (*ours, place)
        elif alone and await self._done(main, info, ours, infos):
            log.info("durable %s reads all of %s from now on", self._durable, self._pattern)
            await self._remake(max(infos[each.durable]["delivered"]["stream_seq"] for each in ours))
            for each in ours:
                await consumer.remove(self._connection, self._stream, each.durable)
            return None
        return (
            self._source(self._main(main.subject), info),
            *(self._source(self._config(place)) for place in ours),
        )

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
        floor = await self._process.histories.bucket.surely(ask)
        return floor.sequence if floor is not None else 0

    async def _done(
        self,
        main: Place,
        info: Mapping[str, Any],
        ours: tuple[Place, ...],
        infos: Mapping[str, Mapping[str, Any]],
    ) -> bool:
        """Whether all of these durables have settled all that is stored for them. No instance reads with them now."""
        for place, each in ((main, info), *((place, infos[place.durable]) for place in ours)):
            if each["num_pending"] or each["num_ack_pending"]:
                return False
            for text in sharding.filters(place.subject) if self._sharded else (place.subject,):
                if await reshard.last(self._connection, self._stream, text) > each["delivered"]["stream_seq"]:
                    return False
        return True

    async def _remake(self, floor: int) -> None:
        """Make the first durable again, for the subject of now; it begins after the floor."""
        now = await self._process.histories.of(self._stream).check(thorough=False)
        await self._durables.floors.place(self._stream, self._durable, floor, now.newest)
        await consumer.remove(self._connection, self._stream, self._durable)
        await self._durables.ensure(self._stream, self._main(self._pattern), refilter=False)

    # -- their configurations ---------------------------------------------------------------------------

    def _place(self, info: Mapping[str, Any]) -> Place | None:
        """What a durable reads; None where that is no subject of a function's."""
        config = info["config"]
        metadata = config.get("metadata") or {}
        found = published(consumer.filters_of(config))
        if not found and (told := metadata.get(SUBJECT)):
            found = (told,)
        if len(found) != 1:
            return None
        try:
            without = tuple(str(each) for each in json.loads(metadata.get(WITHOUT) or "[]"))
        except ValueError:
            without = ()
        return Place(info["name"], found[0], without)

    def _name(self, subject: str) -> str:
        digest = hashlib.blake2b(subject.encode(), digest_size=4).hexdigest()
        return f"{self._durable}-{ALSO}-{digest}"

    def _main(self, subject: str, *, narrowed: bool = False) -> ConsumerConfig:
        return self._config(Place(self._durable, subject), narrowed=narrowed)

    def _config(self, place: Place, *, start: int = 0, narrowed: bool = False) -> ConsumerConfig:
        whole = self._sharded and sharding.reads_all(place.subject, self._captured)
        made = consumer.config(
            place.durable, place.subject, self._binding.deliver, self._binding.function,
            sharded=self._sharded, whole=whole, start=start,
        )  # fmt: skip
        told = {**made.metadata, SUBJECT: place.subject, PROJECT: self._process.project}
        if narrowed:
            told[NARROWED] = "yes"
        if place.without:
            told[WITHOUT] = json.dumps(place.without)
        return msgspec.structs.replace(made, metadata=told)

    def _source(self, wanted: ConsumerConfig, info: Mapping[str, Any] | None = None) -> Source:
        without = tuple(json.loads(wanted.metadata.get(WITHOUT, "[]")))
        narrowed = info is not None and NARROWED in (info["config"].get("metadata") or {})
        if not (self._sharded or without or narrowed):
            return Source(wanted)
        return Source(wanted, reader(wanted.metadata[SUBJECT], without))
