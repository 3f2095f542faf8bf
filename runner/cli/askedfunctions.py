"""Functions that instances ask by `ctx.request`, as `runner status` shows them: what the askers know of each instance that answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

HEADS = ["ASKED", "INSTANCE", ">ASKERS", "STATE", ">OUTSTANDING", ">WEIGHT", ">LATENCY", ">SUCCESS"]


def asked(snapshots: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The asked functions and their instances, each instance with what every asker knows of it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for snapshot in snapshots:
        for each in snapshot.get("asked", []):
            key = each["project"], each["subject"]
            of_it = found.setdefault(key, {"function": each["function"], "instances": {}})
            for chosen in each["instances"]:
                asker = {
                    "asker": snapshot["instance"],
                    "state": chosen.get("state", "healthy"),
                    "reason": chosen.get("reason", ""),
                    "outstanding": chosen.get("outstanding", 0),
                    "weight": chosen.get("weight", 1.0),
                    "latency": chosen.get("latency", 0.0),
                    "success": chosen.get("success", 1.0),
                }
                of_it["instances"].setdefault(chosen["instance"], []).append(asker)
    return [
        {
            "project": project,
            "function": of_it["function"],
            "subject": subject,
            "instances": [
                {"instance": name, "askers": askers} for name, askers in sorted(of_it["instances"].items())
            ],
        }
        for (project, subject), of_it in sorted(found.items())
    ]


def rows(found: Sequence[dict[str, Any]], project: str) -> Iterator[list[str]]:
    """A table row for each instance of an asked function, with the figures of all its askers together."""
    for each in found:
        name = each["function"] if each["project"] == project else f"{each['project']}.{each['function']}"
        for instance in each["instances"]:
            askers = instance["askers"]
            latencies = [asker["latency"] for asker in askers if asker["latency"]]
            yield [
                name,
                instance["instance"],
                f"{len(askers):,}",
                _state(askers),
                f"{sum(asker['outstanding'] for asker in askers):,}",
                f"{askers[0]['weight']:g}",
                f"{median(latencies) * 1000:.3g} ms" if latencies else "-",
                f"{min(asker['success'] for asker in askers):.0%}",
            ]


def _state(askers: Sequence[dict[str, Any]]) -> str:
    """`healthy`, or each other state that askers see, with its reason and the number of those askers."""
    counts = Counter((asker["state"], asker["reason"]) for asker in askers if asker["state"] != "healthy")
    told = [
        f"{state}{f' ({reason})' if reason else ''}{f' by {count} of {len(askers)}' if len(askers) > 1 else ''}"
        for (state, reason), count in sorted(counts.items())
    ]
    return ", ".join(told) or "healthy"
