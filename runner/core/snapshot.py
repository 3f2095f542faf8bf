"""Snapshots: an instance's answer when it is asked for its status, as it is written and read."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import (
    Count,
    FunctionName,
    Index,
    InstanceName,
    Line,
    ProjectName,
    Seconds,
    Share,
    Stream,
    SubjectPattern,
    UnixTime,
)
from runner.core.generation import MOST_SHARDS
from runner.core.histogram import SIZE
from runner.core.holding import Holding
from runner.core.minutes import Minute

Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,255}\Z")]


class FunctionPart(Struct, frozen=True, omit_defaults=True):
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
    """The least and the most microseconds in it; None while it is empty, and from an earlier release."""
    subject: SubjectPattern | None = None
    """The subject that the function reads, as published; None from an earlier release."""
    ordered: bool | None = None
    key_positions: Annotated[tuple[Index, ...], Meta(max_length=256)] | None = None
    """Indexes, from 0, of the tokens that make its keys; empty without order, None from an earlier release."""
    dead: dict[Line, Count] = {}
    delayed: Count = 0
    """How many of those in flight wait here for their next attempt."""
    recent: tuple[Count, Count] | None = None
    """How many attempts have ended in the last minute, and how many have failed; None from an earlier release."""
    throttled: bool = False
    """Whether the instance takes fewer messages, because the function fails far more often there than elsewhere."""
    label: Stream | None = None
    """The function's name in the code, if it differs from the name in NATS."""
    standing: Annotated[list[Line], Meta(max_length=MOST_SHARDS)] = []
    """The shards or keys that are stuck, and why."""
    lag: Seconds = 0.0
    """Age of the oldest message not yet delivered, when the server was last asked."""
    unkept: Count = 0
    """How many errors of retried attempts were not kept: those over 100 a second, and those that could not be stored."""
    slots: Count = 0
    """How many handlers may run at once; 0 from an earlier release."""
    busy: Count = 0
    """How many handlers run."""
    parked_keys: Count = 0
    """How many keys are parked or on their way back, as far as this instance knows."""
    takeovers: Annotated[list[Count], Meta(max_length=SIZE + 1)] = []
    """How long takeovers of other instances' shards took until messages could start, as a histogram's snapshot."""


class Answering(Struct, frozen=True, omit_defaults=True):
    """One function of one instance that answers requests."""

    subject: SubjectPattern
    in_flight: Count
    queued: Count
    handled: Count
    acked: Count
    failed: Count
    """How many requests were answered with an error."""
    faulty: Count
    """How many of those were not the asker's fault."""
    rate: Share
    duration: Annotated[list[Count], Meta(min_length=1, max_length=SIZE + 1)]
    """A histogram's snapshot."""
    extremes: tuple[Count, Count] | None = None
    """The least and the most microseconds in it; None while it is empty."""
    slots: Count = 0
    """How many handlers may run at once."""
    not_started: dict[Line, Count] = {}
    """How many requests were refused before their handler began, by reason."""


MOST_ASKED = 100
"""Most asked functions in an instance's status, and most instances of each."""


class Chosen(Struct, frozen=True, omit_defaults=True):
    """An instance that is asked, as its asker knows it."""

    instance: InstanceName
    state: Literal["healthy", "resting", "ejected", "trial"] = "healthy"
    reason: Line = ""
    """Why it is ejected, or on trial."""
    outstanding: Count = 0
    weight: Share = 1.0
    latency: Seconds = 0.0
    """The running geometric mean of its answers; 0.0 before the first."""
    success: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of requests to it that did not fail."""


class AskedFunction(Struct, frozen=True, omit_defaults=True):
    """A function that an instance asks, of its own project or of another one."""

    project: ProjectName
    function: Line
    subject: SubjectPattern
    known: Count
    """How many instances are known to answer the function."""
    instances: Annotated[list[Chosen], Meta(max_length=MOST_ASKED)]
    """The instances, those that are not healthy first."""


class Snapshot(Struct, frozen=True, omit_defaults=True):
    """The status of one instance."""

    instance: Name
    since: UnixTime
    functions: dict[FunctionName, FunctionPart]
    answering: dict[FunctionName, Answering] = {}
    held: Holding | None = None
    """When the instance was asked for one message: what it holds of it. None from an earlier release."""
    asked: Annotated[list[AskedFunction], Meta(max_length=MOST_ASKED)] = []
    minute: Count = 0
    """The number of the present minute; 0 from an earlier release."""
    minutes: dict[FunctionName, Minute] = {}
    """What each function has done since the record of the last minute."""


read = checked.json(Snapshot)
"""Decode an answer; raises `Unfit`."""
