"""The batches of one shard, each of one key: which messages are called together.

Rule 1: a batch of a key is the message that holds the key's lane, and those that follow it there. It waits for more until
        it is full or has waited for `linger`, without a slot.
Rule 2: a message that runs again runs alone. A message whose body could not be fetched again, or that waits behind a mark of its key,
        ends a batch.
Rule 3: a batch that has failed as a whole goes back into its lanes, and is searched by smaller ones (`core/inorder.py`).
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

from runner.jetstream.delivery import Delivery, Source
from runner.ordered.batchlanes import BatchLanes


class KeyBatches:
    """Batches that each hold messages of one key; they wait here before the function's queue."""

    def __init__(self, lanes: BatchLanes) -> None:
        self.lanes = lanes
        self.key, self.put_back = lanes.key, lanes.put_back
        self.failed, self.succeeded = lanes.failed, lanes.succeeded
        self._leads: dict[Hashable, Delivery] = {}
        """By key, the first message of each batch that waits for more."""
        self._queued = 0
        """Batches that wait for a slot."""

    @property
    def lingers(self) -> bool:
        """Whether a batch waits for more messages."""
        return bool(self._leads)

    @property
    def sated(self) -> bool:
        """Whether to ask for no more messages: their bodies would be dropped, and read from the stream again when their turn comes."""
        waits = self._queued > 0 or self.lingers or bool(self.lanes.incomplete)
        return waits and self.lanes.spill.heavy

    def arrive(self, delivery: Delivery) -> None:
        """A message holds its lane, and may start."""
        self.lanes.complete(delivery, self.key(delivery), self._arrive)

    def _arrive(self, delivery: Delivery) -> None:
        lanes, key = self.lanes, self.key(delivery)
        if lanes.hurries(delivery, key) or lanes.ordering.waiting(key) + 1 >= lanes.most:
            self._enqueue(delivery)
        else:
            self._leads[key] = delivery
            lanes.windows.open(delivery, partial(self._due, key, delivery))

    def _enqueue(self, lead: Delivery) -> None:
        self._queued += 1
        self.lanes.queue.arrive(lead)

    def _due(self, key: Hashable, delivery: Delivery) -> None:
        if self._leads.get(key) is delivery:
            del self._leads[key]
        if not delivery.settled:
            self._enqueue(delivery)

    def grown(self, delivery: Delivery) -> None:
        """One more message waits in its lane: if that fills a waiting batch, the batch goes to the queue."""
        lanes, key = self.lanes, self.key(delivery)
        lead = self._leads.get(key)
        if lead is not None and (lanes.ordering.waiting(key) + 1 >= lanes.most or lanes.spill.heavy):
            lanes.windows.close(lead)

    def forget(self, source: Source) -> set[int]:
        """Drop the messages that have not started; returns the sequences of those that were in the queue."""
        self._leads.clear()
        self._queued = 0
        return self.lanes.forget(source)

    def take(self, lead: Delivery) -> list[Delivery]:
        """The messages of the batch that runs now, by sequence."""
        lanes = self.lanes
        self._queued = max(0, self._queued - 1)
        if lead.careful:
            return [lead]
        key = self.key(lead)
        following = list(lanes.following(key, lanes.size(key) - 1))
        if following:
            lanes.ordering.join(key, len(following))
            lanes.spill.joined(following)
        return [lead, *following]

    def end(self) -> None:
        """A batch has ended."""
        self.lanes.wake()
