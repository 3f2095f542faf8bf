"""Batches of messages of all keys of a shard, in stream order; one batch runs at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from heapq import merge
from itertools import chain, islice
from operator import attrgetter

from runner.jetstream.delivery import Delivery, Source
from runner.ordered.batchlanes import BatchLanes

SEQUENCE = attrgetter("sequence")


class ShardBatches:
    """Batches that each hold messages of all keys of the shard; one runs at a time."""

    def __init__(self, lanes: BatchLanes) -> None:
        self.lanes = lanes
        self.key, self.put_back = lanes.key, lanes.put_back
        self.failed, self.succeeded = lanes.failed, lanes.succeeded
        self._ordering, self._windows = lanes.ordering, lanes.windows
        self._ready: dict[Hashable, Delivery] = {}
        """By key, the message that holds its lane and may start."""
        self._count = 0
        """The number of these messages, and of those that wait behind them in their lanes."""
        self._lead: Delivery | None = None
        """The message in the queue that stands for the next batch."""
        self._runs = False

    @property
    def lingers(self) -> bool:
        """Whether a batch waits for more messages."""
        return self in self._windows

    @property
    def sated(self) -> bool:
        """Whether to ask for no more messages: whatever their key, they would wait for the end of the batch that runs."""
        waits = self._runs or bool(self._ready) or bool(self.lanes.incomplete)
        return (waits or self._ordering.uncommitted > 0) and self.lanes.spill.heavy

    def arrive(self, delivery: Delivery) -> None:
        """A message holds its lane, and may start."""
        self.lanes.complete(delivery, None, self._arrive)

    def _arrive(self, delivery: Delivery) -> None:
        if self.lanes.queue.giving_back:
            self.lanes.queue.arrive(delivery)
            return
        key = self.key(delivery)
        self._ready[key] = delivery
        self._count += 1 + self._ordering.waiting(key)
        self._look(hurries=self.lanes.hurries(delivery, None))

    def grown(self, delivery: Delivery) -> None:
        """One more message waits in its lane."""
        if self.key(delivery) in self._ready:
            self._count += 1
            if self._count >= self.lanes.most or self.lanes.spill.heavy:
                self._look(hurries=True)

    def _look(self, *, hurries: bool) -> None:
        """Have the next batch run, now or once it has waited."""
        if self._runs or not self._ready or (self._lead is not None and not self._lead.settled):
            return
        if not hurries and self._count < self.lanes.most:
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
            self.lanes.queue.arrive(self._lead)

    def forget(self, source: Source) -> set[int]:
        """Drop the messages that have not started; returns the sequences of those that were in the queue."""
        self._ready.clear()
        self._count, self._lead = 0, None
        return self.lanes.forget(source)

    def take(self, lead: Delivery) -> list[Delivery]:
        """The messages of the batch that runs now, by sequence."""
        self._runs, self._lead = True, None
        most = self.lanes.size(None)
        ready = {key: each for key, each in self._ready.items() if not each.settled}
        runs = [
            [each] if each.careful else chain([each], self.lanes.following(key, most - 1))
            for key, each in ready.items()
        ]
        found = list(islice(merge(*runs, key=SEQUENCE), most))
        heads = {each.sequence for each in ready.values()}
        self.lanes.spill.joined(each for each in found if each.sequence not in heads)
        for key, count in Counter(map(self.key, found)).items():
            del ready[key]
            if count > 1:
                self._ordering.join(key, count - 1)
        self._ready = ready
        self._count = len(ready) + sum(self._ordering.waiting(key) for key in ready)
        return found

    def end(self) -> None:
        """A batch has ended: the next may be taken."""
        self._runs = False
        self.lanes.wake()
        self._look(hurries=any(self.lanes.hurries(each, None) for each in self._ready.values()))
