"""Settings of a durable consumer by which messages, or the function's place in the stream, are lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.core.doctor.finding import Finding, Severity


def of_consumer(name: str, function: str, info: Mapping[str, Any], most: int) -> Iterator[Finding]:
    """Check a function's durable; `most` is how many messages the function works on at once at most."""
    config = info["config"]

    def told(severity: Severity, what: str, meaning: str, remedy: str) -> Finding:
        return Finding("durable", severity, f"{name}: {what}", meaning, remedy)

    again = f"start {function}, which puts it back, or delete the setting with the `nats` command"
    if (policy := config.get("ack_policy") or "explicit") != "explicit":
        yield told(
            "hurts",
            f'ack_policy = "{policy}"',
            "messages count as done before they have run",
            "delete the durable while nothing runs: it is made again where it was",
        )
    if (deliveries := int(config.get("max_deliver") or -1)) > 0:
        yield told(
            "hurts",
            f"max_deliver = {deliveries}",
            f"the server gives a message up after {deliveries} deliveries, without a dead letter",
            again,
        )
    if 0 < (outstanding := int(config.get("max_ack_pending") or -1)) < most:
        yield told(
            "may hurt",
            f"max_ack_pending = {outstanding:,}",
            f"{function} works on {most:,} messages at once in each process, and gets {outstanding:,} in all; those that wait for a retry count, too",
            again,
        )
    if threshold := int(config.get("inactive_threshold") or 0):
        yield told(
            "hurts",
            f"inactive_threshold = {threshold / 1e9:g} s",
            "the server deletes it while no instance runs for that long, and with it the place in the stream",
            again,
        )
    if info.get("paused"):
        yield told(
            "may hurt",
            f"paused until {config.get('pause_until', 'an unknown time')}",
            f"{function} gets no messages until then",
            "resume it with the `nats` command: nats consumer resume",
        )
