"""One durable that a function reads, and which of its messages are to run."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from runner.core import sharding
from runner.jetstream.consumer import ConsumerConfig


class DurableSource(Struct, frozen=True):
    """One durable to read. `original` gives the subject of a message as published; None if the message is not to run here."""

    wanted: ConsumerConfig
    original: Callable[[bytes], bytes | None] | None = None


def reader(subject: str, without: tuple[str, ...]) -> Callable[[bytes], bytes | None]:
    """Make a function that gives the original of a stored subject; None if another durable reads the message."""
    read = sharding.reader(subject)
    if not without:
        return read
    others = [sharding.reader(each) for each in without]

    def read_subject(stored: bytes) -> bytes | None:
        found = read(stored)
        return None if found is None or any(other(stored) is not None for other in others) else found

    return read_subject
