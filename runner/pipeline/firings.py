"""Which firings of a schedule run: decided by `core/firing.py`, on a record that all instances write by compare-and-set."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from runner.bindings import Binding
from runner.core import firing, header, identity
from runner.core.firing import NONE, FiringRecord, Pass, Tick
from runner.core.settlement import Nak, Settlement
from runner.errors import JetrunnerError
from runner.jetstream import tolerant
from runner.jetstream.messages import leader_message
from runner.jetstream.ownstreams import AGAIN
from runner.pipeline.message import Incoming
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.schedules")

T = TypeVar("T")


class Firings:
    """The firings of one function."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        assert binding.schedule is not None
        self._schedule = binding.schedule
        self._alone = binding.overlap == "skip"
        self._function = binding.function
        self._connection = runtime.connection
        self._kv = runtime.kv
        self._key = identity.firings_key(runtime.project, binding.function)
        self._subject = identity.tick_subject(runtime.project, binding.function)

    async def admit(self, incoming: Incoming) -> bool:
        """Whether a firing runs; otherwise it is settled here. Raises JetrunnerError if the record cannot be written."""
        delivery = incoming.delivery
        if incoming.sent_back:
            return True
        tick = await self._tick(incoming)
        decision = await self._change(partial(_admitted, tick))
        if decision is None:
            return True
        log.info("%s: %s does not run: %s", self._function, incoming.id, decision.why)
        delivery.source.settle(delivery, b"+ACK")
        return False

    async def ended(self, _: Incoming, settlement: Settlement) -> None:
        """A firing has ended: pass over the firings that came due meanwhile, if the function's firings may not overlap."""
        if self._alone and not isinstance(settlement, Nak):
            await self._pass_over(0)

    async def missed(self) -> None:
        """No instance has run for a while: only the last waiting firing runs."""
        await self._pass_over(1)

    async def _pass_over(self, but: int) -> None:
        """Pass over all stored firings, except the last `but` sequences and those that were started."""
        try:
            sequence, stored_ns = await self._newest()
            through = max(0, sequence - but), max(0, stored_ns - but)
            await self._change(lambda record: (firing.passing(record, *through), None))
        except JetrunnerError as error:  # then the firings run: late, but not lost
            log.warning("%s: the list of firings to skip could not be written: %s", self._function, error)

    async def _tick(self, incoming: Incoming) -> Tick:
        headers = header.parse(incoming.delivery.header or b"")
        age = self._connection.clock.now() - incoming.stored_ns / 1e9
        return Tick(
            firing.firing_of(headers),
            incoming.sequence,
            incoming.stored_ns,
            age,
            later=age > firing.LATE_SECONDS and (await self._newest())[0] > incoming.sequence,
            again=(incoming.delivery.deliveries or incoming.delivery.attempt) > 1,
            repeated=firing.is_repeated(self._schedule, headers, incoming.stored_ns),
        )

    async def _newest(self) -> tuple[int, int]:
        """Sequence and time of the last stored firing; zeros if there is none."""
        found = await leader_message(self._connection, AGAIN, {"last_by_subj": self._subject})
        return (found.sequence, found.stored_ns) if found is not None else (0, 0)

    async def _change(self, change: Callable[[FiringRecord], tuple[FiringRecord | None, T]]) -> T:
        """Write the changed record, if `change` returns another one, and return the second value of `change`."""
        while True:
            entry = await self._kv.get(self._key)
            record = tolerant.read(firing.decode, entry.value, self._key) or NONE if entry.value else NONE
            changed, said = change(record)
            if changed is None or changed == record:
                return said
            if await self._kv.swap(self._key, firing.encode(changed), entry.revision) is not None:
                return said


def _admitted(tick: Tick, record: FiringRecord) -> tuple[FiringRecord | None, Pass | None]:
    decision = firing.decide(record, tick)
    return (None, decision) if isinstance(decision, Pass) else (decision.record, None)
