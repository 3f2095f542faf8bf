"""Batches of all keys of a shard, one at a time: those that do not wait, in stream order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from heapq import merge
from itertools import chain, islice
from operator import attrgetter

from runner.core.ordering import Ordering
from runner.jetstream.delivery import Delivery, Source
from runner.ordered.keybatches import KeyBatches
from runner.ordered.shared import Shared
from runner.ordered.windows import Windows

SEQUENCE = attrgetter("sequence")


class ShardBatches(KeyBatches):
    """Each of all keys of the shard, one at a time."""

    _lead: Delivery | None = None
    """In the queue for the next one."""
    _runs = False

    def __init__(
        self,
        shared: Shared,
        windows: Windows,
        ordering: Ordering,
        unsettled: dict[int, Delivery],
        start: Callable[[Sequence[int]], None],
    ) -> None:
        super().__init__(shared, windows, ordering, unsettled, start)
        self._ready: dict[Hashable, Delivery] = {}
        """By key, what holds its lane and may start."""
        self._count = 0
        """Of those, and those that wait in their lanes."""

    @property
    def lingers(self) -> bool:
        """Whether a batch waits for more messages."""
        return self in self._windows

    @property
    def sated(self) -> bool:
        """Whether nothing more is to be asked for: it would wait for the end of the batch that runs, whatever its key."""
        return (self._runs or bool(self._ready) or self._ordering.uncommitted > 0) and self.spill.heavy

    def arrive(self, delivery: Delivery) -> None:
        """It holds its lane, and may start."""
        if self._queue.giving_back:
            self._queue.arrive(delivery)
            return
        key = self.key(delivery)
        self._ready[key] = delivery
        self._count += 1 + self._ordering.waiting(key)
        self._look(hurries=self._hurries(delivery, None))

    def grown(self, delivery: Delivery) -> None:
        """A message waits in its lane."""
        if self.key(delivery) in self._ready:
            self._count += 1
            if self._count >= self._most or self.spill.heavy:
                self._look(hurries=True)

    def _look(self, *, hurries: bool) -> None:
        """Have the next one run, now or once it has waited."""
        if self._runs or not self._ready or (self._lead is not None and not self._lead.settled):
            return
        if not hurries and self._count < self._most:
            if self not in self._windows:
                self._windows.open(self, self._call)
        elif self in self._windows:
            self._windows.close(self)
        else:
            self._call()

    def _call(self) -> None:
        self._ready = {key: each for key, each in self._ready.items() if not each.settled}
        self._lead = next(iter(self._ready.values()), None)
        if self._lead is not None:
            self._enqueue(self._lead)

    def forget(self, source: Source) -> set[int]:
        """Drop what has not started; the sequences of those in the queue."""
        self._ready.clear()
        self._count, self._lead = 0, None
        return super().forget(source)

    def take(self, lead: Delivery) -> list[Delivery]:
        """The batch that runs now, by sequence."""
        self._queued, self._runs, self._lead = 0, True, None
        most = self._size(None)
        ready = {key: each for key, each in self._ready.items() if not each.settled}
        lanes = [
            [each] if each.careful else chain([each], self._following(key, most - 1))
            for key, each in ready.items()
        ]
        found = list(islice(merge(*lanes, key=SEQUENCE), most))
        heads = {each.sequence for each in ready.values()}
        self.spill.joined(each for each in found if each.sequence not in heads)
        for key, count in Counter(map(self.key, found)).items():
            del ready[key]
            if count > 1:
                self._ordering.join(key, count - 1)
        self._ready = ready
        self._count = len(ready) + sum(self._ordering.waiting(key) for key in ready)
        return found

    def _name(self, deliveries: Sequence[Delivery]) -> Hashable:
        return None

    def end(self) -> None:
        """A batch has ended: the next may be taken."""
        self._runs = False
        super().end()
        self._look(hurries=any(self._hurries(each, None) for each in self._ready.values()))
