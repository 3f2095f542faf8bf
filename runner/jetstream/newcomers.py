"""Warns of a new function that may be an old one under another name, by what the server holds: see `runner.core.newcomer`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from runner.bindings import Binding
from runner.core.newcomer import Newcomer, StandingDurable, suspicion
from runner.core.subject import overlaps
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import count, subjects_of


async def stored(connection: Connection, stream: str, subject: str) -> int:
    """How many messages of a published subject a stream holds, also in its shards."""
    shards = f"shard.*.*.{subject}"
    found = await count(connection, stream, subject)
    return found if overlaps(subject, shards) else found + await count(connection, stream, shards)


def suspected(
    binding: Binding,
    waiting: int,
    project: str,
    functions: Collection[str],
    durables: Iterable[Mapping[str, Any]],
) -> str:
    """The warning for a function without a durable, from the durables on its stream; empty if there is none."""
    newcomer = Newcomer(binding.label, binding.function, binding.subject.wildcard, waiting)
    return suspicion(newcomer, project, functions, [_standing(each) for each in durables])


def _standing(info: Mapping[str, Any]) -> StandingDurable:
    config = info["config"]
    function = (config.get("metadata") or {}).get("jetrunner.function", "")
    return StandingDurable(info["name"], subjects_of(config) or (">",), function)
