"""The batches of one shard, each of one key: which messages are called together.

Rule 1: a batch of a key is the message that holds the key's lane, and those that follow it there. It waits for more until
        it is full or has waited for `linger`, without a slot.
Rule 2: what runs again runs alone, and what has to be fetched again or waits behind a mark of its key ends a batch.
Rule 3: a batch that has failed as a whole goes back into its lanes, and is searched by smaller ones (`core/inorder.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial

from runner.core import inorder
from runner.core.inorder import Narrowing
from runner.core.ordering import Ordering
from runner.jetstream.delivery import Delivery, Source
from runner.ordered.shared import Shared
from runner.ordered.spill import SPILLED, Spill
from runner.ordered.windows import Windows

REMEMBERED = 10_000
"""Keys of which is known that a batch has failed."""


class KeyBatches:
    """Each of one key; stands before the function's queue."""

    spill: Spill
    """What waits in the shard, by its bytes."""
    wake: Callable[[], None]
    """Called when more may be asked for."""

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
        self._queued = 0
        """Batches that wait for a slot."""
        self._narrowings: dict[Hashable, Narrowing] = {}

    @property
    def lingers(self) -> bool:
        """Whether a batch waits for more messages."""
        return bool(self._leads)

    @property
    def sated(self) -> bool:
        """Whether nothing more is to be asked for: what came would be read from the stream once more when its turn comes."""
        return (self._queued > 0 or self.lingers) and self.spill.heavy

    def key(self, delivery: Delivery) -> Hashable:
        """As its subject says."""
        found: Hashable = self._key_of(delivery.subject)
        return found

    # -- on their way to a slot -------------------------------------------------------------------------

    def arrive(self, delivery: Delivery) -> None:
        """It holds its lane, and may start."""
        key = self.key(delivery)
        if self._hurries(delivery, key) or self._ordering.waiting(key) + 1 >= self._most:
            self._enqueue(delivery)
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
            or self.spill.heavy
        )

    def _enqueue(self, lead: Delivery) -> None:
        self._queued += 1
        self._queue.arrive(lead)

    def _due(self, key: Hashable, delivery: Delivery) -> None:
        if self._leads.get(key) is delivery:
            del self._leads[key]
        if not delivery.settled:
            self._enqueue(delivery)

    def grown(self, delivery: Delivery) -> None:
        """A message waits in its lane."""
        key = self.key(delivery)
        lead = self._leads.get(key)
        if lead is not None and (self._ordering.waiting(key) + 1 >= self._most or self.spill.heavy):
            self._windows.close(lead)

    def forget(self, source: Source) -> set[int]:
        """Drop what has not started; the sequences of those in the queue."""
        self._leads.clear()
        self._narrowings.clear()
        self._queued = 0
        return self._queue.forget(source)

    # -- as the slot has them ---------------------------------------------------------------------------

    def take(self, lead: Delivery) -> list[Delivery]:
        """The batch that runs now, by sequence."""
        self._queued = max(0, self._queued - 1)
        if lead.careful:
            return [lead]
        key = self.key(lead)
        following = list(self._following(key, self._size(key) - 1))
        if following:
            self._ordering.join(key, len(following))
            self.spill.joined(following)
        return [lead, *following]

    def _size(self, name: Hashable) -> int:
        narrowing = self._narrowings.get(name)
        return narrowing.size if narrowing is not None else self._most

    def _following(self, key: Hashable, most: int) -> Iterator[Delivery]:
        """Those that may be called together with what holds the lane."""
        if key in self._parking.marks:
            return
        unsettled = self._unsettled
        for sequence in self._ordering.following(key, most):
            delivery = unsettled.get(sequence)
            if delivery is None or delivery.careful or delivery.body is SPILLED:
                return
            yield delivery

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
        holders = {*again}
        self.spill.parted(each for each in deliveries if not each.settled and each.sequence not in holders)
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
        self.wake()
