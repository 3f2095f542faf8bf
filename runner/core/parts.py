"""Parts of a split event: the headers that say to which event a message belongs, which part it is, and how many there are.

A generator's outputs are the parts of its input. The output that another function makes of a part is the same part, until a
`@gather` joins them. A generator on the way splits a part once more, so a message's place is a stack, the outermost event first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from msgspec import Struct

from runner.core import header
from runner.core.origin import Origin

BATCH = "Jetrunner-Batch"
INDEX = "Jetrunner-Index"
COUNT = "Jetrunner-Count"
NAMES = (BATCH, INDEX, COUNT)
_NAMES = frozenset(name.lower() for name in NAMES)
MARK = BATCH.encode()
"""The header that every part has."""
MOST = 100_000
"""Most parts of one event."""
DEEPEST = 8
"""Most events within each other."""
PASSING = "-"
"""The count of an event that was not split, because an outer one had no parts; it is joined again without a call."""
_BATCH = re.compile(r"[0-9a-f]{32}")


class Part(Struct, frozen=True):
    """A message's place in one event."""

    batch: str
    """The event: 32 hexadecimal digits."""
    index: int
    """The number of the part, from 0."""
    count: int
    """Number of parts; 0: the event has no parts, and this message stands for it; -1: the message only passes through."""


def batch_id(origin: Origin, wire_name: str) -> str:
    """Name the event that a function makes of a message: always the same for the same message."""
    text = f"{origin.stream}:{origin.sequence}.{origin.timestamp_ns}:{wire_name}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def is_batch(text: str) -> bool:
    """Whether a text names an event."""
    return _BATCH.fullmatch(text) is not None


def read(block: bytes | None) -> tuple[Part, ...]:
    """Read the stack from a message's headers, the innermost event last; empty when it is not a part, or a header is malformed."""
    if block is None or MARK not in block:
        return ()
    batches, indexes, counts = (_values(block, name) for name in NAMES)
    if not len(batches) == len(indexes) == len(counts) <= DEEPEST:
        return ()
    found = []
    for batch, index, count in zip(batches, indexes, counts, strict=True):
        number = -1 if count == PASSING else _number(count)
        place = _number(index)
        if not is_batch(batch) or number is None or place is None or place >= max(1, number):
            return ()
        found.append(Part(batch, place, number))
    return tuple(found)


def write(stack: Sequence[Part]) -> dict[str, str]:
    """Write the headers of a stack; an empty stack has none."""
    if not stack:
        return {}
    return {
        BATCH: ",".join(part.batch for part in stack),
        INDEX: ",".join(str(part.index) for part in stack),
        COUNT: ",".join(PASSING if part.count < 0 else str(part.count) for part in stack),
    }


def lines(block: bytes) -> bytes:
    """Make the lines of a header block that give an output the same place as its input; empty when the input is not a part."""
    found = write(read(block))
    return "".join(f"{name}: {value}\r\n" for name, value in found.items()).encode()


def placeless(block: bytes) -> bytes:
    """The same header block without the place in a split event: what is made of a joined event is not a part of it."""
    return header.without(block, _NAMES.__contains__)


def _values(block: bytes, name: str) -> list[str]:
    found = header.get(block, name.encode())
    return found.decode("ascii", "replace").split(",") if found else []


def index(text: str) -> int | None:
    """Read the index of a part from a text; None when it is no index."""
    number = _number(text)
    return number if number is not None and number < MOST else None


def _number(text: str) -> int | None:
    return (
        int(text)
        if text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and int(text) <= MOST
        else None
    )
