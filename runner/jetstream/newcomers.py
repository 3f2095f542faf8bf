"""What the server holds that a function without a durable may have been before: see `runner.core.newcomer`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from runner.bindings import Binding
from runner.core.newcomer import Newcomer, Standing, suspicion
from runner.core.subject import overlaps
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import count, subjects_of


async def stored(connection: Connection, stream: str, subject: str) -> int:
    """How many messages a stream holds of a subject, as published: in its shards, too."""
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
    """What is to be told of a function that is new, by the durables on its stream; empty for nothing."""
    newcomer = Newcomer(binding.label, binding.function, binding.subject.wildcard, waiting)
    return suspicion(newcomer, project, functions, [_standing(each) for each in durables])


def _standing(info: Mapping[str, Any]) -> Standing:
    config = info["config"]
    function = (config.get("metadata") or {}).get("jetrunner.function", "")
    return Standing(info["name"], subjects_of(config) or (">",), function)
