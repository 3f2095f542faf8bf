"""The queue between arrival and slots: what goes back when the process drains."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from anyio.abc import TaskGroup

from runner.jetstream.delivery import Delivery, Source
from runner.runtime.line import Line


class Queue(Line[Delivery]):
    """Deliveries that wait for a slot; slots are opened as they are needed, up to `slots`."""

    lingers = sated = False
    """Nothing waits here for more messages, nor are there too many."""

    def __init__(self, tasks: TaskGroup, open_slot: Callable[[], None], slots: int) -> None:
        super().__init__(tasks, open_slot, slots)
        self.giving_back = False
        """True once the process drains: what has not started goes back, but for what is worked off."""
        self.working_off = False
        """Whether what comes for the first time still runs while the process drains."""

    def arrive(self, delivery: Delivery) -> None:
        """Take a delivery, from within the read that brought it."""
        if self.giving_back and (delivery.careful or not self.working_off):
            delivery.source.give_back(delivery)
            return
        self.deliveries.append(delivery)
        if not self._pumping:
            self._start_pump()

    def return_here(self, delivery: Delivery) -> None:
        """`arrive` for a message that was sent back to this function: its headers tell where it stands in the stream."""
        delivery.careful = True
        self.arrive(delivery)

    def work_off(self) -> None:
        """From now on only messages at their first delivery start here; the others go back, as they may take long."""
        self.giving_back = self.working_off = True
        self._return([each for each in self.deliveries if each.careful])

    def give_back(self) -> None:
        """Return everything that has not started, and from now on whatever still arrives."""
        self.giving_back, self.working_off = True, False
        self._return(list(self.deliveries))

    def give_back_newest(self, source: Source, count: int) -> None:
        """Return so many of one source's messages that came for the first time and have not started, the newest first."""
        if count > 0:
            here = [each for each in self.deliveries if each.source is source and not each.careful]
            self._return(here[-count:])

    def give_back_of(self, source: Source) -> None:
        """Return what has come from one source and has not started."""
        self._return([each for each in self.deliveries if each.source is source])

    def forget(self, source: Source) -> set[int]:
        """Drop what has come from one source and has not started; its sequences."""
        forgotten = {each.sequence for each in self.deliveries if each.source is source}
        kept = [each for each in self.deliveries if each.source is not source]
        self.deliveries.clear()
        self.deliveries.extend(kept)
        return forgotten

    def _return(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.deliveries.remove(delivery)
            delivery.source.give_back(delivery)
