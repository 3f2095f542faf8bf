"""The plan: what stands between the declared streams and the real ones."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from runner.core.streams.config import Change

ALSO = "also"
"""In the name of a durable that stands beside a function's first one."""

StreamAction: TypeAlias = Literal["create", "update", "refuse", "same"]
ConsumerAction: TypeAlias = Literal["create", "update", "same", "stray"]
ScheduleAction: TypeAlias = Literal["create", "update", "same", "remove"]


class StreamPlan(Struct, frozen=True):
    """One declared stream; `config` is what would be sent to the server."""

    name: str
    file: str
    action: StreamAction
    changes: tuple[Change, ...]
    config: dict[str, Any]


class ConsumerPlan(Struct, frozen=True):
    """One durable of a function, or one that no function has any more."""

    name: str
    stream: str
    function: str
    action: ConsumerAction
    subject: str = ""
    pending: int = 0
    """Messages it has not settled: not delivered yet, or delivered and not acknowledged."""
    changes: tuple[Change, ...] = ()
    note: str = ""
    """What becomes of what is stored, once it is run."""
    warning: str = ""
    """What is lost before it is run."""


class SchedulePlan(Struct, frozen=True):
    """The schedule of a function, or one that no function has any more."""

    function: str
    action: ScheduleAction
    text: str
    """As it is written in the code, with its time zone; of one to be removed, as it was."""
    changes: tuple[Change, ...] = ()


class Plan(Struct, frozen=True):
    """Everything that differs; what is the same is listed too."""

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
        """The changes that these are refused for."""
        return tuple(
            (stream, change)
            for stream in self.refused
            for change in stream.changes
            if change.safety == "unsafe"
        )


def action(changes: Collection[Change], *, exists: bool) -> StreamAction:
    """What the changes of one stream amount to."""
    if any(change.safety == "unsafe" for change in changes):
        return "refuse"
    if not exists:
        return "create"
    return "update" if changes else "same"


def order(stream: StreamPlan) -> tuple[int, str]:
    """Sort key: a stream gives a subject up before another one takes it."""
    return (
        ("update", "create").index(stream.action) if stream.action in ("update", "create") else 2,
        stream.name,
    )


def function_of(durable: str, project: str) -> str | None:
    """The function whose durable, one beside it, or a shard's, has this name; None when it is not of this project.

    A function's name is an identifier, so `shop-eu-charge` belongs to the project `shop-eu` and not to `shop`.
    """
    match = re.fullmatch(rf"{re.escape(project)}-([^\W\d]\w*)(?:-\d+-\d+|-{ALSO}-[0-9a-f]+)?", durable)
    return match[1] if match else None


def generation_of(durable: str) -> int:
    """The generation of a shard's durable; -1 for one that is no shard's."""
    match = re.search(r"-(\d+)-\d+\Z", durable)
    return int(match[1]) if match else -1
