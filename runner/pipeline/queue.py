"""The queue between arrival and slots. When the process drains, the queue gives messages back."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from anyio.abc import TaskGroup

from runner.jetstream.delivery import Delivery, Source
from runner.runtime.slotline import SlotLine


class Queue:
    """Deliveries that wait for a slot. Slots are opened when needed, up to `slots`."""

    lingers = sated = False
    """As in `KeyBatches`; no batch waits here, and the queue is never too full."""

    def __init__(self, tasks: TaskGroup, open_slot: Callable[[], None], slots: int) -> None:
        self.line = SlotLine[Delivery](tasks, open_slot, slots)
        self.deliveries = self.line.deliveries
        self.giving_back = False
        """True once the process drains: messages that have not started go back, except those that are worked off."""
        self.working_off = False
        """Whether messages at their first delivery still run while the process drains."""

    def arrive(self, delivery: Delivery) -> None:
        """Take a delivery, from within the read that brought it."""
        if self.giving_back and (delivery.careful or not self.working_off):
            delivery.source.give_back(delivery)
            return
        line = self.line  # the body of `join`, without a call for each message
        line.deliveries.append(delivery)
        if not line.pumping:
            line.start_pump()

    def return_here(self, delivery: Delivery) -> None:
        """`arrive` for a message that was sent back to this function: its headers name its place in the original stream."""
        delivery.careful = True
        self.arrive(delivery)

    def work_off(self) -> None:
        """From now on only messages at their first delivery start here; the others go back, as they may take long."""
        self.giving_back = self.working_off = True
        self._return([each for each in self.deliveries if each.careful])

    def give_back(self) -> None:
        """Give back all messages that have not started, and from now on every message that arrives."""
        self.giving_back, self.working_off = True, False
        self._return(list(self.deliveries))

    def give_back_newest(self, source: Source, count: int) -> None:
        """Give back up to `count` of one source's messages at their first delivery that have not started, the newest first."""
        if count > 0:
            here = [each for each in self.deliveries if each.source is source and not each.careful]
            self._return(here[-count:])

    def give_back_of(self, source: Source) -> None:
        """Give back the messages of one source that have not started."""
        self._return([each for each in self.deliveries if each.source is source])

    def forget(self, source: Source) -> set[int]:
        """Drop the messages of one source that have not started; returns their sequences."""
        forgotten = {each.sequence for each in self.deliveries if each.source is source}
        kept = [each for each in self.deliveries if each.source is not source]
        self.deliveries.clear()
        self.deliveries.extend(kept)
        return forgotten

    def _return(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.deliveries.remove(delivery)
            delivery.source.give_back(delivery)
