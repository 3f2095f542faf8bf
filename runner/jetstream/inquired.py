"""The message that `runner message show` asks about, and the answers of instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from runner.core import sharding
from runner.core.origin import Origin
from runner.core.storyfacts import Hand
from runner.jetstream.messages import StoredMessage


class Inquired(Struct, frozen=True):
    """The message that is asked about."""

    stream: str
    sequence: int
    stored: StoredMessage | None
    """None if its stream has removed it."""
    info: Mapping[str, Any]
    """The server's info on the stream."""

    @property
    def origin(self) -> Origin:
        """The message's place; without time and subject if the message is gone."""
        if self.stored is None:
            return Origin(self.stream, self.sequence, 0, "")
        subject = sharding.original(self.stored.subject)
        return Origin(self.stream, self.sequence, self.stored.stored_ns, subject)

    def is_at(self, place: Origin | None) -> bool:
        """Whether a place is that of this message; if the message is gone, stream and sequence have to do."""
        if place is None or (place.stream, place.sequence) != (self.stream, self.sequence):
            return False
        return self.stored is None or place.timestamp_ns in (0, self.stored.stored_ns)


class InstanceAnswers(Struct, frozen=True):
    """The answers of a project's instances."""

    hands: Mapping[str, tuple[Hand, ...]] = {}
    """What the instances hold of the message, by function."""
    runs: Mapping[str, int] = {}
    """How many instances run each function."""
    names: frozenset[str] = frozenset()


def hands(told: Sequence[Mapping[str, Any]], held: Sequence[tuple[str, Hand]]) -> InstanceAnswers:
    """Collect the answers: the instances' snapshots, and what each holds of the message, by function."""
    by_function: dict[str, list[Hand]] = {}
    for function, hand in held:
        by_function.setdefault(function, []).append(hand)
    runs: dict[str, int] = {}
    for snapshot in told:
        for function in snapshot["functions"]:
            runs[function] = runs.get(function, 0) + 1
    names = frozenset(str(each["instance"]) for each in told)
    return InstanceAnswers({name: tuple(found) for name, found in by_function.items()}, runs, names)
