"""Sampling: whether a trace is recorded, by the sampler that OTEL_TRACES_SAMPLER names."""

from __future__ import annotations

_BELOW = 1 << 64


def taken(sampler: str, ratio: float, trace_id: bytes, parent: bool | None) -> bool:
    """Decide for a span whose parent has this sampled flag (None: a root); the empty sampler follows the parent, and takes roots."""
    if parent is not None and not sampler.startswith(("always", "traceidratio")):
        return parent
    if sampler.endswith("traceidratio"):
        return int.from_bytes(trace_id[8:], "big") < round(ratio * _BELOW)
    return not sampler.endswith("always_off")
