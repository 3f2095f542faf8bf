"""The batches of one shard: which messages are called together.

Rule 1: a batch of a key is the message that holds the key's lane, and those that follow it there. It waits for more until
        it is full or has waited for `linger`, without a slot.
Rule 2: what runs again runs alone, and what has to be fetched again or waits behind a mark of its key ends a batch.
Rule 3: a batch that has failed as a whole goes back into its lanes, and is searched by smaller ones (`core/inorder.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

from runner.core import inorder
from runner.core.inorder import Narrowing
from runner.core.ordering import Ordering
from runner.jetstream.delivery import Delivery, Source
from runner.ordered.shared import Shared
from runner.ordered.spill import SPILLED
from runner.ordered.windows import Windows
from runner.pipeline.queue import Queue

REMEMBERED = 10_000
"""Keys of which is known that a batch has failed."""


class KeyBatches:
    """Each of one key; stands before the function's queue."""

    def __init__(
        self,
        shared: Shared,
        windows: Windows,
        ordering: Ordering,
        unsettled: dict[int, Delivery],
        start: Callable[[Sequence[int]], None],
    ) -> None:
        """`start` is called with the sequences of messages that may start again."""
        self._queue = shared.pipeline.queue
        self._most = shared.pipeline.binding.batch
        self._parking, self._key_of = shared.parking, shared.key_of
        self._windows = windows
        self._ordering = ordering
        self._unsettled = unsettled
        self._start = start
        self._leads: dict[Hashable, Delivery] = {}
        """By key, those that wait for more messages."""
        self._narrowings: dict[Hashable, Narrowing] = {}

    @property
    def lingers(self) -> bool:
        """Whether a batch waits for more messages."""
        return bool(self._leads)

    def key(self, delivery: Delivery) -> Hashable:
        """As its subject says."""
        found: Hashable = self._key_of(delivery.subject)
        return found

    # -- on their way to a slot -------------------------------------------------------------------------

    def arrive(self, delivery: Delivery) -> None:
        """It holds its lane, and may start."""
        key = self.key(delivery)
        if self._hurries(delivery, key) or self._ordering.waiting(key) + 1 >= self._most:
            self._queue.arrive(delivery)
        else:
            self._leads[key] = delivery
            self._windows.open(delivery, partial(self._due, key, delivery))

    def _hurries(self, delivery: Delivery, name: Hashable) -> bool:
        """Whether it waits for nothing more."""
        return (
            delivery.careful
            or not self._windows.linger
            or self._queue.giving_back
            or name in self._narrowings
        )

    def _due(self, key: Hashable, delivery: Delivery) -> None:
        if self._leads.get(key) is delivery:
            del self._leads[key]
        if not delivery.settled:
            self._queue.arrive(delivery)

    def grown(self, delivery: Delivery) -> None:
        """A message waits in its lane."""
        key = self.key(delivery)
        lead = self._leads.get(key)
        if lead is not None and self._ordering.waiting(key) + 1 >= self._most:
            self._windows.close(lead)

    def forget(self, source: Source) -> set[int]:
        """Drop what has not started; the sequences of those in the queue."""
        self._leads.clear()
        self._narrowings.clear()
        return self._queue.forget(source)

    # -- as the slot has them ---------------------------------------------------------------------------

    def take(self, lead: Delivery) -> list[Delivery]:
        """The batch that runs now, by sequence."""
        if lead.careful:
            return [lead]
        key = self.key(lead)
        following = self._following(key, self._size(key) - 1)
        if following:
            self._ordering.join(key, len(following))
        return [lead, *following]

    def _size(self, name: Hashable) -> int:
        narrowing = self._narrowings.get(name)
        return narrowing.size if narrowing is not None else self._most

    def _following(self, key: Hashable, most: int) -> list[Delivery]:
        """Those that may be called together with what holds the lane."""
        found: list[Delivery] = []
        if key in self._parking.marks:
            return found
        unsettled = self._unsettled
        for sequence in self._ordering.following(key, most):
            delivery = unsettled.get(sequence)
            if delivery is None or delivery.careful or delivery.body is SPILLED:
                break
            found.append(delivery)
        return found

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """These of a batch are not done: they run again, each after what stands before it."""
        parted: dict[Hashable, list[int]] = {}
        for delivery in deliveries:
            if not delivery.settled:
                delivery.started, delivery.overdue, delivery.task = 0.0, False, None
                parted.setdefault(self.key(delivery), []).append(delivery.sequence)
        again: list[int] = []
        for key, sequences in parted.items():
            again += self._ordering.part(key, sequences)
        self._start(again)

    def failed(self, deliveries: Sequence[Delivery]) -> None:
        """A batch of these has failed as a whole."""
        if len(self._narrowings) >= REMEMBERED:
            self._narrowings.clear()
        self._narrowings[self._name(deliveries)] = inorder.after_failure(
            [each.sequence for each in deliveries]
        )

    def succeeded(self, deliveries: Sequence[Delivery]) -> None:
        """A batch of these has succeeded."""
        if self._narrowings and (before := self._narrowings.pop(name := self._name(deliveries), None)):
            after = inorder.after_success(before, [each.sequence for each in deliveries], self._most)
            if after is not None:
                self._narrowings[name] = after

    def _name(self, deliveries: Sequence[Delivery]) -> Hashable:
        """What one is searched for by."""
        return self.key(deliveries[0])

    def end(self) -> None:
        """A batch has ended."""


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
            if self._count >= self._most:
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
            self._queue.arrive(self._lead)

    def forget(self, source: Source) -> set[int]:
        """Drop what has not started; the sequences of those in the queue."""
        self._ready.clear()
        self._count, self._lead = 0, None
        return super().forget(source)

    def take(self, lead: Delivery) -> list[Delivery]:
        """The batch that runs now, by sequence."""
        self._runs, self._lead = True, None
        most = self._size(None)
        ready = {key: each for key, each in self._ready.items() if not each.settled}
        found: list[tuple[int, Delivery, Hashable]] = []
        for key, each in ready.items():
            found.append((each.sequence, each, key))
            if not each.careful:
                found += [(other.sequence, other, key) for other in self._following(key, most - 1)]
        found.sort(key=lambda one: one[0])
        joined: dict[Hashable, int] = {}
        for _, _, key in found[:most]:
            joined[key] = joined.get(key, -1) + 1
        for key, count in joined.items():
            del ready[key]
            if count:
                self._ordering.join(key, count)
        self._ready = ready
        self._count = len(ready) + sum(self._ordering.waiting(key) for key in ready)
        return [each for _, each, _ in found[:most]]

    def _name(self, deliveries: Sequence[Delivery]) -> Hashable:
        return None

    def end(self) -> None:
        """A batch has ended: the next may be taken."""
        self._runs = False
        self._look(hurries=any(self._hurries(each, None) for each in self._ready.values()))


def before_queue(
    shared: Shared,
    ordering: Ordering,
    unsettled: dict[int, Delivery],
    start: Callable[[Sequence[int]], None],
) -> Queue | KeyBatches:
    """Where messages of a shard go whose turn it is: to the function's queue, by batches where it takes such."""
    if shared.windows is None:
        return shared.pipeline.queue
    kind = ShardBatches if shared.pipeline.binding.batch_by == "shard" else KeyBatches
    return kind(shared, shared.windows, ordering, unsettled, start)


def noticing(queue: Queue | KeyBatches, wait: Callable[[Delivery], None]) -> Callable[[Delivery], None]:
    """`wait`, for a message that has to wait in its lane, and batches know of it."""
    if isinstance(queue, Queue):
        return wait

    def noticed(delivery: Delivery) -> None:
        wait(delivery)
        queue.grown(delivery)

    return noticed
