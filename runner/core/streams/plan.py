"""The plan: the differences between the declared streams, durables and schedules and those on the server."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from runner.core.streams.config import Change

ALSO = "also"
"""A part of the name of a durable that is beside a function's first one."""

StreamAction: TypeAlias = Literal["create", "update", "refuse", "same"]
ConsumerAction: TypeAlias = Literal["create", "update", "same", "stray"]
ScheduleAction: TypeAlias = Literal["create", "update", "same", "remove"]


class StreamPlan(Struct, frozen=True):
    """The plan of one declared stream; `config` is the configuration that would be sent to the server."""

    name: str
    file: str
    action: StreamAction
    changes: tuple[Change, ...]
    config: dict[str, Any]


class ConsumerPlan(Struct, frozen=True):
    """The plan of one durable: of a function, or of no function any more."""

    name: str
    stream: str
    function: str
    action: ConsumerAction
    subject: str = ""
    pending: int = 0
    """How many messages are not settled: not delivered yet, or delivered and not acknowledged."""
    changes: tuple[Change, ...] = ()
    note: str = ""
    """What becomes of the stored messages once the function runs."""
    warning: str = ""
    """What is lost unless the function runs before."""


class SchedulePlan(Struct, frozen=True):
    """The plan of one schedule: of a function, or of no function any more."""

    function: str
    action: ScheduleAction
    text: str
    """The schedule as the code has it, with its time zone; for one to be removed: as the server has it."""
    changes: tuple[Change, ...] = ()


class Plan(Struct, frozen=True):
    """The plan of all streams, durables and schedules, unchanged ones included."""

    streams: tuple[StreamPlan, ...]
    consumers: tuple[ConsumerPlan, ...] = ()
    schedules: tuple[SchedulePlan, ...] = ()

    @property
    def changed(self) -> tuple[StreamPlan, ...]:
        """The streams that `apply` would create or update."""
        return tuple(stream for stream in self.streams if stream.action in ("create", "update"))

    @property
    def refused(self) -> tuple[StreamPlan, ...]:
        """The streams that stop `apply` from doing anything."""
        return tuple(stream for stream in self.streams if stream.action == "refuse")

    @property
    def unsafe(self) -> tuple[tuple[StreamPlan, Change], ...]:
        """The changes for which those streams are refused."""
        return tuple(
            (stream, change)
            for stream in self.refused
            for change in stream.changes
            if change.safety == "unsafe"
        )


def action(changes: Collection[Change], *, exists: bool) -> StreamAction:
    """The action that follows from the changes of one stream."""
    if any(change.safety == "unsafe" for change in changes):
        return "refuse"
    if not exists:
        return "create"
    return "update" if changes else "same"


def order(stream: StreamPlan) -> tuple[int, str]:
    """Sort key: streams are updated before others are created, so that one gives a subject up before another takes it."""
    return (
        ("update", "create").index(stream.action) if stream.action in ("update", "create") else 2,
        stream.name,
    )


def function_of(durable: str, project: str) -> str | None:
    """The function whose durable, a durable beside it, or a shard's durable has this name; None: it is not of this project.

    A function's name is an identifier, so `shop-eu-charge` belongs to the project `shop-eu` and not to `shop`.
    """
    match = re.fullmatch(rf"{re.escape(project)}-([^\W\d]\w*)(?:-\d+-\d+|-{ALSO}-[0-9a-f]+)?", durable)
    return match[1] if match else None


def generation_of(durable: str) -> int:
    """The generation of a shard's durable; -1: the durable is not a shard's."""
    match = re.search(r"-(\d+)-\d+\Z", durable)
    return int(match[1]) if match else -1
