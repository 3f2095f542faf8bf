"""Snapshots: what an instance answers when it is asked for its status, as it is written and read."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import (
    Count,
    Function,
    Index,
    Instance,
    Line,
    Pattern,
    Project,
    Seconds,
    Share,
    Stream,
    UnixTime,
)
from runner.core.generation import MOST_SHARDS
from runner.core.histogram import SIZE
from runner.core.holding import Holding
from runner.core.minutes import Minute

Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,255}\Z")]


class Part(Struct, frozen=True, omit_defaults=True):
    """One function of one instance."""

    stream: Stream
    durable: Stream
    in_flight: Count
    handled: Count
    acked: Count
    failed: Count
    retried: Count
    rate: Share
    duration: Annotated[list[Count], Meta(min_length=1, max_length=SIZE + 1)]
    """A histogram's snapshot."""
    extremes: tuple[Count, Count] | None = None
    """The least and the most microseconds in it; None while it is empty, and an earlier release does not say."""
    subject: Pattern | None = None
    """What it reads, as published; an earlier release does not say."""
    ordered: bool | None = None
    key_positions: Annotated[tuple[Index, ...], Meta(max_length=256)] | None = None
    """Indexes, from 0, of the tokens that make its keys, none without order; an earlier release does not say."""
    dead: dict[Line, Count] = {}
    delayed: Count = 0
    """Of those in flight: they wait here for their next attempt."""
    recent: tuple[Count, Count] | None = None
    """Attempts that have ended in the last minute, and failed; an earlier release does not say."""
    throttled: bool = False
    """Whether it takes fewer messages, since it fails far more often than the others."""
    label: Stream | None = None
    """What its code calls it, where that is another name than in NATS."""
    standing: Annotated[list[Line], Meta(max_length=MOST_SHARDS)] = []
    """What stands still, and why."""
    lag: Seconds = 0.0
    """Age of the oldest message not yet delivered, when the server was last asked."""
    unkept: Count = 0
    """Errors of attempts that were to be retried, and were not kept: over 100 a second, or they could not be stored."""
    slots: Count = 0
    """Handlers that may run at once; an earlier release does not say."""
    busy: Count = 0
    """How many of them run."""
    parked_keys: Count = 0
    """Keys that are parked or on their way back, as this instance knows."""
    takeovers: Annotated[list[Count], Meta(max_length=SIZE + 1)] = []
    """How long it took until the messages of other instances' shards could start here, as a histogram's snapshot."""


class Answering(Struct, frozen=True, omit_defaults=True):
    """One function of one instance that answers requests."""

    subject: Pattern
    in_flight: Count
    queued: Count
    handled: Count
    acked: Count
    failed: Count
    """Answered with an error."""
    faulty: Count
    """Those of them that were no fault of the asker's."""
    rate: Share
    duration: Annotated[list[Count], Meta(min_length=1, max_length=SIZE + 1)]
    """A histogram's snapshot."""
    extremes: tuple[Count, Count] | None = None
    """The least and the most microseconds in it; None while it is empty."""
    slots: Count = 0
    """Handlers that may run at once."""
    not_started: dict[Line, Count] = {}
    """Requests that were refused before their handler began, by the reason."""


MOST_ASKED = 100
"""So many functions that an instance asks are in its status, and so many instances of each."""


class Chosen(Struct, frozen=True, omit_defaults=True):
    """An instance that is asked, as its asker knows it."""

    instance: Instance
    state: Literal["healthy", "resting", "ejected", "trial"] = "healthy"
    reason: Line = ""
    """Why it is ejected, or on trial."""
    outstanding: Count = 0
    weight: Share = 1.0
    latency: Seconds = 0.0
    """The running geometric mean of its answers; 0.0 before the first."""
    success: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of its answers that were no failure."""


class AskedFunction(Struct, frozen=True, omit_defaults=True):
    """A function that an instance asks, of its own project or of another one."""

    project: Project
    function: Line
    subject: Pattern
    known: Count
    """Instances that are known to answer it."""
    instances: Annotated[list[Chosen], Meta(max_length=MOST_ASKED)]
    """Those that are not healthy first."""


class Snapshot(Struct, frozen=True, omit_defaults=True):
    """One instance."""

    instance: Name
    since: UnixTime
    functions: dict[Function, Part]
    answering: dict[Function, Answering] = {}
    held: Holding | None = None
    """Where it was asked for one message: what it has of it. An earlier release does not say."""
    asked: Annotated[list[AskedFunction], Meta(max_length=MOST_ASKED)] = []
    minute: Count = 0
    """Which one it is; 0: an earlier release does not say."""
    minutes: dict[Function, Minute] = {}
    """What was done since the record of the last one."""


read = checked.json(Snapshot)
"""What was answered; raises `Unfit`."""
