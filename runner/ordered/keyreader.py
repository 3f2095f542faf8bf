"""How the key of a message is read from its subject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runner.bindings import Binding
from runner.core.sharding import key


def key_reader(binding: Binding) -> Callable[[bytes], Any]:
    """Reads the key from an original subject."""
    positions = binding.key_positions
    if len(positions) > 1:
        return lambda subject: key(subject, positions)
    place = positions[0]
    tokens = binding.subject.wildcard.split(".")
    if "*" in tokens[:place]:
        return lambda subject: subject.split(b".", place + 1)[place]
    begin = len(".".join(tokens[:place]).encode()) + (place > 0)
    if place == len(tokens) - 1:
        return lambda subject: subject[begin:]
    # Another token follows always: the durable's filter requires it.
    return lambda subject: subject[begin : subject.find(b".", begin)]
