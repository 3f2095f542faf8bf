"""Settings of a stream by which the functions that read it or write to it lose messages, or order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from runner.core.doctor.finding import Finding, Severity
from runner.core.quantity import format_duration

FULL = 0.9
"""The used part of a limit from which on it is reported."""


class Use(Struct, frozen=True):
    """How one function uses a stream."""

    function: str
    span: float
    """Seconds from the first attempt at a message to the end of its last one, at most."""
    ordered: bool = False


def of_input(
    name: str, config: Mapping[str, Any], readers: Sequence[Use], consumers: int
) -> Iterator[Finding]:
    """Check a stream that functions read; `consumers` is the number of all its consumers on the server."""
    if not readers:
        return
    slowest = max(readers, key=lambda each: each.span)
    age = int(config.get("max_age") or 0) / 1e9
    if 0 < age < slowest.span:
        yield _told(
            name,
            "hurts",
            f"max_age = {_time(age)}",
            f"{slowest.function} may try a message for {_time(slowest.span)}: by then it is gone, without a dead letter",
            f"raise max_age over {_time(slowest.span)}, or lower retry= of {slowest.function}",
        )
    retention = config.get("retention") or "limits"
    if retention == "workqueue":
        many = max(consumers, len(readers)) > 1
        yield _told(
            name,
            "hurts" if many else "may hurt",
            'retention = "workqueue"',
            "a message is removed once it is acknowledged, and the server takes one consumer for a subject: a second function, or another "
            "subject of this one, is refused, and nothing can be run again from the stream",
            'retention = "limits" with a max_age',
        )
    elif retention == "interest":
        yield _told(
            name,
            "may hurt",
            'retention = "interest"',
            "what is published before a function's durable stands is not stored, and nothing can be run again from the stream",
            'retention = "limits" with a max_age, or run each new function before anything is published to it',
        )
    if (most := int(config.get("max_msgs_per_subject") or -1)) > 0:
        ordered = [each.function for each in readers if each.ordered]
        names = ", ".join(ordered or [each.function for each in readers])
        yield _told(
            name,
            "hurts" if ordered else "may hurt",
            f"max_msgs_per_subject = {most}",
            f"of more messages under one subject the oldest are removed, though {names} has not run them"
            + (": its order has gaps" if ordered else ""),
            "leave max_msgs_per_subject away, and give the stream a max_age",
        )
    if (config.get("storage") or "file") == "memory":
        yield _told(
            name,
            "may hurt",
            'storage = "memory"',
            "what is stored is gone once its servers have restarted",
            'storage = "file", in a new stream: the server cannot change it',
        )


def of_output(name: str, config: Mapping[str, Any], writers: Sequence[Use]) -> Iterator[Finding]:
    """Check a stream that functions publish to."""
    if not writers:
        return
    slowest = max(writers, key=lambda each: each.span)
    window = int(config.get("duplicate_window") or 0) / 1e9
    if window < slowest.span:
        yield _told(
            name,
            "hurts",
            f"duplicate_window = {_time(window)}",
            f"{slowest.function} may try a message for {_time(slowest.span)}: an output of an earlier attempt is stored twice",
            f"raise duplicate_window to {_time(slowest.span)} or more, or lower retry= of {slowest.function}",
        )
    if config.get("sealed") or config.get("no_ack"):
        which = "sealed" if config.get("sealed") else "no_ack"
        yield _told(
            name,
            "hurts",
            f"{which} = true",
            f"no output is confirmed, so that no input of {slowest.function} is acknowledged: each is a dead letter in the end",
            f"leave {which} away"
            if which == "no_ack"
            else "publish to another stream: a sealed one stays so",
        )


def of_limits(name: str, config: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the room that is left in a stream."""
    for limit, used, what in (("max_msgs", "messages", "messages"), ("max_bytes", "bytes", "bytes")):
        most, now = int(config.get(limit) or -1), int(state.get(used) or 0)
        if most <= 0 or now < FULL * most:
            continue
        new = config.get("discard") == "new"
        yield _told(
            name,
            "hurts",
            f"{now:,} of {most:,} {what}",
            "it is nearly full, and then refuses what is published"
            if new
            else "it is full, and the oldest messages go, whether they have run or not",
            f"raise {limit}, or lower max_age",
        )


def of_replicas(name: str, config: Mapping[str, Any], *, clustered: bool) -> Iterator[Finding]:
    """Check how many servers have a copy of the stream."""
    if clustered and int(config.get("num_replicas") or 1) == 1:
        yield _told(
            name,
            "may hurt",
            "num_replicas = 1 in a cluster",
            "while its one server is away nothing of it is read or stored, and what was stored last may be lost",
            "num_replicas = 3",
        )


def _told(name: str, severity: Severity, what: str, meaning: str, remedy: str) -> Finding:
    return Finding("stream", severity, f"{name}: {what}", meaning, remedy)


def _time(seconds: float) -> str:
    return format_duration(int(seconds)) if seconds >= 1 else f"{seconds:g}s"
