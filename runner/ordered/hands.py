"""Where one message is in a shard, for an instance's answer to whoever asks for the message."""

from __future__ import annotations

from msgspec import structs

from runner.consumers.hands import held
from runner.core.holding import Held
from runner.ordered.lanes import Lanes


def held_in(lanes: Lanes, function: str, sequence: int, *, apart: bool) -> Held | None:
    """The state of a message in a shard's lanes; None if it is not there."""
    delivery = lanes.unsettled.get(sequence)
    if delivery is None:
        return None
    told = held(function, delivery, lanes.unsettled, apart=apart)
    if told.step != "queued":
        return told
    if (due := lanes.rests.due(delivery)) is not None:
        return structs.replace(told, step="resting", due=due)
    if lanes.ordering.barrier:
        return structs.replace(told, step="held")
    key = lanes.key_of(delivery.subject)
    behind = lanes.ordering.following(key, len(lanes.unsettled))
    if sequence not in behind:
        return told
    heads = [each for each in lanes.ordering.heads() if _key(lanes, each) == key]
    return structs.replace(told, step="behind", ahead=1 + behind.index(sequence), head=max(0, *heads, 0))


def _key(lanes: Lanes, sequence: int) -> object:
    known = lanes.unsettled.get(sequence)
    return lanes.key_of(known.subject) if known is not None else None
