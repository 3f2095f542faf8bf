"""The lanes of one shard as its batches see them: which messages may be called together, and which go back into their lanes."""

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
"""The most keys whose failed batches are remembered; beyond that, all are forgotten."""


class BatchLanes:
    """Stands between the batches of one shard and the function's queue."""

    spill: Spill
    """The waiting messages of the shard, and their bytes."""
    wake: Callable[[], None]
    """Called when the pull may ask for more messages."""

    def __init__(
        self,
        shared: Shared,
        windows: Windows,
        ordering: Ordering,
        unsettled: dict[int, Delivery],
        start: Callable[[Sequence[int]], None],
    ) -> None:
        """`start` is called with the sequences of messages that may start again."""
        binding = shared.pipeline.binding
        self.queue = shared.pipeline.queue
        self.most = binding.batch
        self.windows = windows
        self.ordering = ordering
        self._of_all_keys = binding.batch_by == "shard"
        self._parking, self._key_of = shared.parking, shared.key_of
        self._unsettled = unsettled
        self._start = start
        self._narrowings: dict[Hashable, Narrowing] = {}
        self.incomplete: set[Delivery] = set()
        """The first messages of batches whose other messages are being fetched."""

    def key(self, delivery: Delivery) -> Hashable:
        """The key of a message, from its subject."""
        found: Hashable = self._key_of(delivery.subject)
        return found

    def hurries(self, delivery: Delivery, name: Hashable) -> bool:
        """Whether a message starts without waiting for more. Failures of its batches are remembered under `name`."""
        return (
            delivery.careful
            or not self.windows.linger
            or self.queue.giving_back
            or name in self._narrowings
            or self.spill.heavy
        )

    def forget(self, source: Source) -> set[int]:
        """Drop the messages that have not started; returns the sequences of those that were in the queue."""
        self._narrowings.clear()
        self.incomplete.clear()
        return self.queue.forget(source)

    # -- as the slot has them ---------------------------------------------------------------------------

    def size(self, name: Hashable) -> int:
        """How many messages the next batch may have."""
        narrowing = self._narrowings.get(name)
        return narrowing.size if narrowing is not None else self.most

    def following(self, key: Hashable, most: int) -> Iterator[Delivery]:
        """The waiting messages of a key that may be called together with the one that holds its lane."""
        for delivery in self._behind(key, most):
            if delivery.body is SPILLED:
                return
            yield delivery

    def complete(self, lead: Delivery, name: Hashable, then: Callable[[Delivery], None]) -> None:
        """Call `then` with `lead`, which begins a batch and may start now, once the other messages of that batch have their bodies."""
        dropped = partial(self._dropped, self.key(lead), name)
        if lead.careful or not dropped():
            then(lead)
        else:
            self.incomplete.add(lead)
            self.spill.restore_behind(lead, dropped, partial(self._completed, lead, then))

    def _completed(self, lead: Delivery, then: Callable[[Delivery], None]) -> None:
        self.incomplete.discard(lead)
        if self._unsettled.get(lead.sequence) is lead and not lead.started:
            then(lead)

    def _dropped(self, key: Hashable, name: Hashable) -> list[Delivery]:
        """The messages that would run together with the one that holds the key's lane, and whose bodies are not here."""
        return [each for each in self._behind(key, self.size(name) - 1) if each.body is SPILLED]

    def _behind(self, key: Hashable, most: int) -> Iterator[Delivery]:
        """The waiting messages of a key that may run together with the one that holds its lane, with their bodies or without."""
        if key in self._parking.marks:
            return
        unsettled = self._unsettled
        for sequence in self.ordering.following(key, most):
            delivery = unsettled.get(sequence)
            if delivery is None or delivery.careful:
                return
            yield delivery

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """These messages of a batch are not done: each runs again, after the messages before it in its lane."""
        parted: dict[Hashable, list[int]] = {}
        for delivery in deliveries:
            if not delivery.settled:
                delivery.started, delivery.overdue, delivery.task = 0.0, False, None
                parted.setdefault(self.key(delivery), []).append(delivery.sequence)
        again: list[int] = []
        for key, sequences in parted.items():
            again += self.ordering.part(key, sequences)
        holders = {*again}
        self.spill.parted(each for each in deliveries if not each.settled and each.sequence not in holders)
        self._start(again)

    def _name(self, deliveries: Sequence[Delivery]) -> Hashable:
        """The name under which a failure of these messages is remembered: their key, or None for all keys of the shard."""
        return None if self._of_all_keys else self.key(deliveries[0])

    def failed(self, deliveries: Sequence[Delivery]) -> None:
        """A batch of these messages has failed as a whole."""
        if len(self._narrowings) >= REMEMBERED:
            self._narrowings.clear()
        self._narrowings[self._name(deliveries)] = inorder.after_failure(
            [each.sequence for each in deliveries]
        )

    def succeeded(self, deliveries: Sequence[Delivery]) -> None:
        """A batch of these messages has succeeded."""
        if self._narrowings and (before := self._narrowings.pop(name := self._name(deliveries), None)):
            after = inorder.after_success(before, [each.sequence for each in deliveries], self.most)
            if after is not None:
                self._narrowings[name] = after
