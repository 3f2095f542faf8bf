"""One metric in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Sequence


def family(name: str, kind: str, text: str, samples: Sequence[tuple[str, float]]) -> list[str]:
    """The lines of one metric, none without samples; each sample has its labels and its value."""
    if not samples:
        return []
    return [
        f"# HELP {name} {text}",
        f"# TYPE {name} {kind}",
        *(f"{name}{{{labels}}} {value!r}" for labels, value in samples),
    ]
