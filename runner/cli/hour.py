"""What `runner status` shows of the last hour: the records of its minutes, and what instances have done since the last record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from runner.core import minutes
from runner.core.checked import Unfit
from runner.core.histogram import Histogram
from runner.core.minutes import Minute
from runner.core.objective import Objective, left, within
from runner.errors import PermissionDenied
from runner.jetstream import tolerant
from runner.jetstream.connection import Connection
from runner.jetstream.kv import KV

PERCENTILES = (50, 95, 99)


async def read(
    connection: Connection, project: str, snapshots: Sequence[dict[str, Any]]
) -> dict[str, Minute]:
    """The figures of each function in the last hour, over all instances, also those that have ended.

    `snapshots` are what the instances answer now.
    """
    first = int(connection.clock.now() // minutes.SECONDS) - minutes.SHOWN
    parts: dict[str, list[Minute]] = {}
    recorded: dict[str, int] = {}
    for key, body in (await _records(connection, project)).items():
        place = minutes.place(key)
        record = tolerant.read(minutes.read, body, "a record of what was done in a minute")
        if place is None or record is None or place[0] < first:
            continue
        recorded[place[1]] = max(place[0], recorded.get(place[1], 0))
        for function, minute in record.functions.items():
            parts.setdefault(function, []).append(minute)
    for each in snapshots:
        if each.get("minute", 0) > recorded.get(each["instance"], 0):  # else that minute is on record by now
            for function, told in each.get("minutes", {}).items():
                parts.setdefault(function, []).append(msgspec.convert(told, Minute))
    return {function: _total(each) for function, each in parts.items()}


async def _records(connection: Connection, project: str) -> dict[str, bytes]:
    try:
        found = await KV(connection).found([f"minutes.{project}.>"])
    except PermissionDenied:  # credentials of an earlier release
        return {}
    return {key: entry.value for key, entry in found.items()}


def _total(parts: Sequence[Minute]) -> Minute:
    fit = []
    for each in parts:
        try:
            fit.append(minutes.total([each]))
        except (ValueError, Unfit):
            continue  # buckets of another release
    return minutes.total(fit)


def told(minute: Minute, objective: Objective) -> dict[str, Any]:
    """The figures of a function as data: durations in seconds, counts, shares from 0 to 1.

    The availability leaves out requests that failed by the asker's fault; refused requests count as failed.
    """
    settled = minute.acked + (minute.failed + minute.refused if minute.answers else minute.dead)
    failed = minute.faulty + minute.refused if minute.answers else minute.dead
    counted = minute.acked + failed
    availability = round(minute.acked / counted, 6) if counted else None
    soon = None
    if objective.latency is not None:
        soon = within(_restored(minute.latency), objective.latency)
    return {
        "settled": settled,
        "succeeded": minute.acked,
        "dead": minute.dead,
        "failures": minute.failed,
        "refused": minute.refused,
        "retries": minute.retried,
        "wait": _percentiles(minute.wait),
        "work": _percentiles(minute.work),
        "latency": _percentiles(minute.latency),
        "availability": availability,
        "within": soon,
        "budget": {
            "availability": left(availability, objective.share)
            if objective.availability is not None
            else None,
            "latency": left(soon, objective.share),
        },
    }


def _restored(buckets: list[int]) -> Histogram:
    return Histogram.restore(buckets) if buckets else Histogram()


def _percentiles(buckets: list[int]) -> dict[str, float]:
    histogram = _restored(buckets)
    return {f"p{each}": histogram.percentile(each) for each in PERCENTILES}


MESSAGES = (">SETTLED", ">FAILURES", ">RETRIES", ">LAG")
REQUESTS = (">REQUESTS", ">FAILURES", ">REFUSED")


def heads(objective: Objective, first: Sequence[str]) -> list[str]:
    """The heads of a table; `first` is `MESSAGES` for functions that take messages, `REQUESTS` for those that answer requests."""
    found = ["LAST HOUR", *first]
    found += [f">{kind} P{each}" for kind in ("WAIT", "WORK") for each in PERCENTILES]
    found.append(">AVAILABLE")
    if objective.availability is not None:
        found.append(">BUDGET")
    if objective.latency is not None:
        found += [f">WITHIN {objective.latency:g} s", ">BUDGET"]
    return found


def rows(functions: Sequence[Mapping[str, Any]], objective: Objective) -> Iterator[list[str]]:
    """A row for each function that has done anything."""
    for function in functions:
        hour = function["hour"]
        if not (hour["settled"] or hour["failures"]):
            continue
        counts = ("settled", "failures", "refused" if function["answers"] else "retries")
        row = [function["label"], *(f"{hour[each]:,}" for each in counts)]
        if not function["answers"]:
            row.append(seconds(function["lag"]))
        row += [seconds(each) for kind in ("wait", "work") for each in hour[kind].values()]
        row.append(percent(hour["availability"]))
        if objective.availability is not None:
            row.append(percent(hour["budget"]["availability"]))
        if objective.latency is not None:
            row += [percent(hour["within"]), percent(hour["budget"]["latency"])]
        yield row


def percent(share: float | None) -> str:
    """A share as text, in percent; `-` without figures."""
    return "-" if share is None else f"{share:.2%}"


def seconds(duration: float) -> str:
    """A duration as text, in seconds or milliseconds; `-` for 0."""
    if not duration:
        return "-"
    return f"{duration:.2f} s" if duration >= 1 else f"{duration * 1000:.3g} ms"
