"""The batches of a source of ordered messages, as the pipeline calls them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from runner.jetstream.delivery import Delivery


class Batched(Protocol):
    """The batches of one shard; the shard's source has them as `batches`."""

    def take(self, lead: Delivery) -> list[Delivery]:
        """The messages of the batch that runs now, by sequence; `lead` came through the queue for the batch."""

    def key(self, delivery: Delivery) -> Hashable:
        """The key of a message, within which messages run in order."""

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """These messages of a batch are not done: each runs again, after the messages before it in its lane."""

    def failed(self, deliveries: Sequence[Delivery]) -> None:
        """A batch of these messages has failed as a whole: the next batches are smaller."""

    def succeeded(self, deliveries: Sequence[Delivery]) -> None:
        """A batch of these messages has succeeded."""

    def end(self) -> None:
        """A batch has ended: another may be taken."""
