"""What a source of ordered messages does for the batches that are made of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from runner.jetstream.delivery import Delivery


class Batched(Protocol):
    """Of one shard: its source has it as `batches`."""

    def take(self, lead: Delivery) -> list[Delivery]:
        """The batch that runs now, by sequence; `lead` came through the queue for it."""

    def key(self, delivery: Delivery) -> Hashable:
        """The key that a message is kept in order by."""

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """These of a batch are not done: they run again, each after what stands before it."""

    def failed(self, deliveries: Sequence[Delivery]) -> None:
        """A batch of these has failed as a whole: the next ones are smaller."""

    def succeeded(self, deliveries: Sequence[Delivery]) -> None:
        """A batch of these has succeeded."""

    def end(self) -> None:
        """A batch has ended: another may be taken."""
