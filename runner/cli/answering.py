"""Functions that answer requests, as `runner status` shows them beside those that read streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any


def answering(
    snapshots: Sequence[dict[str, Any]],
    measured: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
    recent: Collection[str],
) -> list[dict[str, Any]]:
    """One entry for each function that answers requests, with the keys that the entry of any other function has, too.

    `recent` names functions that worked in the last hour; each has an entry, even if no instance runs it now. `measured` joins the
    numbers of several instances.
    """
    names = sorted({*recent, *(name for each in snapshots for name in each.get("answering", {}))})
    return [
        _function(name, [each for each in snapshots if name in each.get("answering", {})], measured)
        for name in names
    ]


def _function(
    name: str,
    snapshots: Sequence[dict[str, Any]],
    measured: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
) -> dict[str, Any]:
    parts = [each["answering"][name] for each in snapshots]
    refused: Counter[str] = Counter()
    for part in parts:
        refused.update(part.get("not_started", {}))
    return {
        "function": name,
        "label": name,
        "answers": True,
        "stream": None,
        "durable": None,
        "ordered": None,
        "pending": sum(part["queued"] for part in parts),
        **_measured(parts, measured),
        "retrying": 0,
        "standing": [],
        "errors_unkept": 0,
        "not_started": dict(refused),
        "instances": [
            {"instance": each["instance"], **_measured([part], measured)}
            for each, part in zip(snapshots, parts, strict=True)
        ],
        "dead_letters": 0,
        "parked": 0,
        "gone": False,
    }


def _measured(
    parts: Sequence[dict[str, Any]], measured: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
) -> dict[str, Any]:
    """The numbers of several instances together; errors that are the asker's fault do not lower the availability."""
    handled, faulty = (sum(part[key] for part in parts) for key in ("handled", "faulty"))
    found = measured([{**part, "retried": 0} for part in parts])
    return {**found, "availability": round(1 - faulty / handled, 6) if handled else None}
