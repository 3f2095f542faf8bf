"""Start records: the recorded starts of messages that may be what killed a process.

From its second delivery on, a message's start is recorded with this process's name before its handler runs, and dropped when it is
settled. A record that is found counts as a death only if its process is gone, so that process is asked on the subject that it
answers on. After a death the message starts in a cell, a process of its own. If that dies twice, the message becomes a dead letter,
`crashed`.

Rule 1: "no responders" means that the process is gone; no answer in time means nothing. That is enough to start the message again,
        which harms nobody. Before the message is given up, no sign of life may come for some seconds: a process that only lost its
        connection is back by then.
Rule 2: a process that lives on takes its own start back when it loses the message, and when it is told to end.
Rule 3: a message that ran alone keeps the process to itself until its start record is removed. Else a death caused by the next
        message would be counted against it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import anyio

from runner.core import identity, poison
from runner.core.checked import Unfit
from runner.core.poison import PoisonStep, Run, Start, StartRecord
from runner.core.settlement import Crashed
from runner.errors import NoStream, PermissionDenied, ServerError
from runner.jetstream.concurrent import gather
from runner.jetstream.publisher import retry_until
from runner.pipeline.message import Incoming
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.suspects")

ASK_SECONDS = 0.5
SILENT_SECONDS = 5.0
"""A process without a sign of life for so long is gone: a lease and a reconnect together take less."""
LOOK_SECONDS = 0.05
BEHIND_SECONDS = 0.01
HOLD_SECONDS = 30.0
"""How long no other message starts while the start of a message that ran alone cannot be taken back."""


class FoundStarts(NamedTuple):
    """The start record of a message, and the next step that follows from it."""

    step: PoisonStep
    record: StartRecord
    revision: int


class Ours:
    """A start in this process whose record may be in the bucket."""

    def __init__(self, incoming: Incoming) -> None:
        self.delivery = incoming.delivery
        self.stored = incoming.stored_ns
        self.leaving = False
        """Whether it is being taken back."""
        self.over = anyio.Event()
        """Set once the record is gone, or another start of the message has replaced it."""


class StartRecords:
    """The recorded starts of one function's messages."""

    def __init__(self, runtime: Runtime, function: str) -> None:
        self._connection = runtime.connection
        self._kv = runtime.kv
        self._tasks = runtime.tasks
        self._project = runtime.project
        self._instance = runtime.instance
        self._function = function
        self._ours: dict[str, Ours] = {}
        self._may_ask = True

    def _key(self, incoming: Incoming) -> str:
        return f"start.{self._project}.{self._function}.{incoming.stream}.{incoming.sequence}"

    # -- before a start ---------------------------------------------------------------------------------

    async def look(self, incoming: Incoming, given_up: Callable[[], bool]) -> FoundStarts:
        """How the message starts. Finding it guilty takes 5 s, unless it is `given_up` meanwhile.

        The record is read from the bucket's leader: an outdated one would be held against the message.
        """
        record, revision = await self._read(self._key(incoming), incoming.stored_ns)
        incoming.delivery.recorded = revision > 0
        gone = await self._gone(start.instance for start in record.starts if not start.seen)
        step = poison.next_step(record, gone)
        if isinstance(step, Crashed):
            return await self._judge(incoming, record, gone, given_up)
        return FoundStarts(step, record, revision)

    async def _judge(
        self, incoming: Incoming, record: StartRecord, gone: set[str], given_up: Callable[[], bool]
    ) -> FoundStarts:
        """The next step of a message that seems guilty: it is given up, or runs once more in a cell or alone."""
        key = self._key(incoming)
        if not isinstance(poison.next_step(record, frozenset()), Crashed):
            log.info(
                "%s: %s was started in %d processes that are gone; it is given up unless one of them answers within %g s",
                self._function, incoming.id, len(gone), SILENT_SECONDS,
            )  # fmt: skip
            gone = await self._silent(gone, given_up)
        record, revision = await self._read(key, incoming.stored_ns)
        step = poison.next_step(record, gone)
        if isinstance(step, Crashed):
            # Written again: that is refused if a process has taken its start back since we have read the record.
            written = await self._kv.swap(key, record.encode(), revision)
            if written is not None:
                return FoundStarts(step, record, written)
            step = Run(poison.CELL)
        return FoundStarts(Run(max(step.stage, poison.CELL)), record, revision)

    async def _read(self, key: str, stored: int) -> tuple[StartRecord, int]:
        value, revision = await self._kv.get(key)
        try:
            return poison.read(value, stored), revision
        except Unfit as error:
            log.warning("%s is ignored, because it cannot be read: %s", key, error)
            return StartRecord(stored), revision

    async def _gone(self, instances: Iterable[str]) -> set[str]:
        """Those of these instances that have no connection."""
        names = [name for name in instances if name and name != self._instance]
        answers = await gather(*map(self._is_gone, names))
        return {name for name, gone in zip(names, answers, strict=True) if gone}

    async def _is_gone(self, instance: str) -> bool:
        if not self._may_ask:
            return True
        try:
            await self._connection.request(identity.alive_subject(self._project, instance), b"", ASK_SECONDS)
        except NoStream:
            return True
        except PermissionDenied as error:  # a message that kills must be found all the same
            log.warning("every start without a settlement counts as a crash: %s", error)
            self._may_ask = False
            return True
        except ServerError:
            return False
        return False

    async def _silent(self, instances: set[str], given_up: Callable[[], bool]) -> set[str]:
        """Those of these instances that give no sign of life for 5 s from now on, as far as can be seen from here."""
        epoch = self._connection.wire.epoch
        looks = [await self._leases(instances)]
        for _ in range(2):
            until = anyio.current_time() + SILENT_SECONDS / 2
            while anyio.current_time() < until:
                if given_up():
                    return set()
                await asyncio.sleep(LOOK_SECONDS)
            looks.append(await self._leases(instances))
        first, second, third = looks
        # A lease renewed twice: the instance lives, out of our reach. Once is not enough, because others may write leases, too.
        renewed = {name for name in instances if third[name] and first[name] != second[name] != third[name]}
        gone = await self._gone(instances - renewed)
        return gone if epoch == self._connection.wire.epoch else set()

    async def _leases(self, instances: set[str]) -> dict[str, int]:
        """The revision of each instance's lease; 0 if it has none."""
        keys = {name: identity.lease_key(self._project, name) for name in instances}
        return {name: (await self._kv.get(key)).revision for name, key in keys.items()}

    async def record(self, incoming: Incoming, found: FoundStarts, stage: int) -> None:
        """Record the start; returns once it is stored, or the message was lost meanwhile."""
        key, stored = self._key(incoming), incoming.stored_ns
        if (before := self._ours.get(key)) is not None:
            before.over.set()
        self._ours[key] = Ours(incoming)
        incoming.delivery.recorded = True
        record, revision = found.record, found.revision
        ours = Start(self._instance, stage)
        while await self._kv.swap(key, record.started(ours).encode(), revision) is None:
            await asyncio.sleep(BEHIND_SECONDS)
            record, revision = await self._read(key, stored)
            if ours in record.starts or incoming.delivery.settled:
                return  # stored by a try without an answer, or lost meanwhile

    # -- after it ---------------------------------------------------------------------------------------

    async def leave(self, incoming: Incoming, stage: int, *, ended: bool, hold: bool) -> None:
        """The handler has `ended`, or did not start, or was cancelled. Returns when other messages may start again.

        Before that, the start record of a message that ran alone is removed; with `hold` false nothing waits for that. Raises no error of
        NATS.
        """
        if not ended or incoming.delivery.settled:
            await self.withdraw(incoming, HOLD_SECONDS if hold and stage >= poison.ALONE else 0)
        elif stage >= poison.ALONE:
            try:
                await self.drop(incoming)
            except ServerError as error:
                log.warning(
                    "%s: the record of the start of %s cannot be deleted yet: %s",
                    self._function,
                    incoming.id,
                    error,
                )

    async def drop(self, incoming: Incoming) -> None:
        """The message is settled: remove its start record."""
        key = self._key(incoming)
        try:
            await self._kv.remove(key)
        except PermissionDenied:  # to purge; an empty record says the same
            await self._kv.put(key, StartRecord(incoming.stored_ns).encode())
        incoming.delivery.recorded = False
        if (ours := self._ours.pop(key, None)) is not None:
            ours.over.set()

    async def withdraw(self, incoming: Incoming, patience: float) -> None:
        """Take back the message's start in this process, which lives on; waits for that at most `patience` seconds."""
        key = self._key(incoming)
        ours = self._ours.get(key)
        if ours is not None and ours.delivery is incoming.delivery:
            self._take_back(key, ours)
            with anyio.move_on_after(patience):
                await ours.over.wait()

    async def witness(self, incoming: Incoming, cell: str) -> None:
        """The message's cell has died, and this process lives: record that death, whatever happens to this process."""
        key, stored = self._key(incoming), incoming.stored_ns
        death = Start(cell, poison.CELL, seen=True)
        while True:
            record, revision = await self._read(key, stored)
            counted = record.without(self._instance).started(death)
            if await self._kv.swap(key, counted.encode(), revision) is not None:
                break
            await asyncio.sleep(BEHIND_SECONDS)
        if (ours := self._ours.pop(key, None)) is not None:
            ours.over.set()

    def excuse(self) -> None:
        """The process was told to end: take back all its starts, because its messages are not to blame for that."""
        for key, ours in self._ours.items():
            self._take_back(key, ours)

    def _take_back(self, key: str, ours: Ours) -> None:
        if not ours.leaving:
            ours.leaving = True
            self._tasks.start_soon(self._taking_back, key, ours)

    async def _taking_back(self, key: str, ours: Ours) -> None:
        try:
            await retry_until(lambda: self._remove(key, ours), math.inf)
        except ServerError as error:
            log.warning("%s cannot be deleted: %s", key, error)
        finally:
            ours.over.set()
            if self._ours.get(key) is ours:
                del self._ours[key]

    async def _remove(self, key: str, ours: Ours) -> None:
        while not ours.over.is_set():
            record, revision = await self._read(key, ours.stored)
            left = record.without(self._instance)
            if left == record or await self._replace(key, left, revision):
                return
            await asyncio.sleep(BEHIND_SECONDS)

    async def _replace(self, key: str, record: StartRecord, revision: int) -> bool:
        """Replace the record of this revision, or remove an empty one; whether that revision still stood."""
        if not record.starts:
            try:
                return await self._kv.remove(key, revision)
            except PermissionDenied:
                pass
        return await self._kv.swap(key, record.encode(), revision) is not None
