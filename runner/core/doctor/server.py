"""Whether a server has the release and the room that the functions need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.core.doctor.finding import Finding

FULL = 0.9
"""The used part of a limit from which on it is reported."""


def of_release(
    version: str,
    release: tuple[int, ...],
    oldest: tuple[int, ...],
    crons: Sequence[str],
    cron: tuple[int, ...],
) -> Iterator[Finding]:
    """Check the server's release; `crons` are the functions with a schedule, and `cron` the release that they need."""
    name = f"nats-server {version or 'of unknown version'}"
    for needed, what in ((oldest, "nothing runs on it: outputs need atomic batches"), (cron, "")):
        if release >= needed or (needed == cron and not crons):
            continue
        yield Finding(
            "server",
            "hurts",
            name,
            what or f"it has no schedules: {', '.join(crons)} cannot run",
            f"upgrade nats-server to {'.'.join(map(str, needed))} or newer",
        )


def of_account(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the limits of the account, as `$JS.API.INFO` has them."""
    limits = info.get("limits") or {}
    for used, limit, what in (
        ("storage", "max_storage", "bytes of file storage"),
        ("memory", "max_memory", "bytes of memory"),
        ("streams", "max_streams", "streams"),
        ("consumers", "max_consumers", "consumers"),
    ):
        most, now = int(limits.get(limit) or 0), int(info.get(used) or 0)
        if most > 0 and now >= FULL * most:
            yield Finding(
                "server",
                "hurts",
                f"the account has {now:,} of {most:,} {what}",
                "beyond that nothing is stored or made: outputs and dead letters are refused",
                "raise the limit of the account, or remove what is not needed",
            )
