"""The record of a split event that is being joined, and what follows when parts arrive or its time is over.

Rule 1: the record names one message that runs the function: the write that completes the record names it, or the expiry does.
Rule 2: an event that was joined stays so: a part that comes later is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs

from runner.core import checked
from runner.core.parts import MOST

LEAST_SECONDS = 1.0
"""The shortest time after which an event is joined without all parts."""
AT_ONCE = 1_024
"""How many parts a joining function asks for at once: most of them are only stored."""
Bits = Annotated[str, Meta(pattern=rf"\A[0-9a-f]{{1,{MOST // 4 + 1}}}\Z")]


class Joins(Struct, frozen=True):
    """How a function joins the parts of split events."""

    expires: float
    """Seconds after the first part until the function is called without the missing parts."""
    max_bytes: int
    """Most bytes that the parts of one event may have together."""

    def scaled(self, factor: float) -> Joins:
        """The same for a test: the wait is multiplied by `factor`, and is 1 s at least."""
        return structs.replace(self, expires=max(LEAST_SECONDS, self.expires * factor))


class EventRecord(
    Struct,
    frozen=True,
    omit_defaults=True,
    rename={"bits": "m", "count": "n", "runner": "r", "done": "d", "given_up": "g"},
):
    """What is known of one event."""

    bits: Bits = "0"
    """The parts that are stored: bit n stands for part n, in hexadecimal digits."""
    count: Annotated[int, Meta(ge=-1, le=MOST)] = -1
    """Number of parts: the highest that any part has told; -1: no part has told."""
    runner: Annotated[str, Meta(max_length=512)] = ""
    """The message that runs the function with them, as `STREAM:SEQUENCE`."""
    done: bool = False
    given_up: bool = False
    """Whether the function has failed with the parts; they are kept for a redrive."""

    @property
    def present(self) -> list[int]:
        """The parts that are stored, in order."""
        bits = int(self.bits, 16)
        return [index for index in range(bits.bit_length()) if bits >> index & 1]

    @property
    def missing(self) -> tuple[int, ...]:
        """The parts that are not stored, as far as the number of parts is known."""
        there = {*self.present}
        return tuple(index for index in range(max(0, self.count)) if index not in there)


NONE = EventRecord()
decode = checked.json(EventRecord)
encode = msgspec.json.encode


class Next(Struct, frozen=True):
    """What follows from an arrival or an expiry."""

    record: EventRecord | None = None
    """The record to be written first, in the place of the one that was read."""
    runs: str = ""
    """The message that runs the function; all others are acknowledged."""
    late: bool = False
    """Whether the event was joined already; its stored parts are removed."""
    waits: bool = False
    """Whether another message runs the function, and may yet be lost."""


def arrive(record: EventRecord, arrived: Mapping[str, int], count: int) -> Next:
    """Parts were stored: `arrived` has the ids of their messages, each with its index; `count` is the number of parts they tell.

    One message stands for an event without parts; its index is -1.
    """
    if record.done:
        return Next(late=True)
    if record.runner:
        return Next(runs=record.runner if record.runner in arrived else "")
    bits = before = int(record.bits, 16)
    for index in arrived.values():
        bits |= 1 << index if index >= 0 else 0
    count = max(record.count, count)  # a split that has run again may have made more parts
    everything = (1 << max(0, count)) - 1
    if count >= 0 and bits & everything == everything:
        runner = [*arrived][-1]
        return Next(structs.replace(record, bits=f"{bits:x}", count=count, runner=runner), runs=runner)
    if bits == before and count == record.count:
        return Next()
    return Next(structs.replace(record, bits=f"{bits:x}", count=count))


def expire(record: EventRecord, message: str, *, there: bool) -> Next:
    """The time is over: `message` says so; `there` tells whether the message that runs the function still exists."""
    if record.runner == message and not record.done:
        return Next(runs=message)
    if record == NONE or record.done or record.given_up:
        return Next(late=record.done)
    if record.runner and there:
        return Next(waits=True)
    return Next(structs.replace(record, runner=message), runs=message)
