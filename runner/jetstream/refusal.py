"""Errors when the server refuses a function's durable: they name the function and say what can be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.core.subject import overlaps
from runner.errors import JetrunnerError, PermissionDenied, ServerError, UsageError
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import consumers_on, subjects_of

MORE_CONSUMERS = (
    "raise max_consumers of the stream, or of the account; or remove consumers that nothing reads with"
)
OVERLAPPING = "each message of a work queue is for one consumer: `nats consumer ls` shows who reads there; give the functions subjects that do not overlap"

HINTS = {
    codes.MAXIMUM_CONSUMERS: MORE_CONSUMERS,
    codes.WORK_QUEUE_UNFILTERED: OVERLAPPING,
    codes.WORK_QUEUE_NOT_UNIQUE: OVERLAPPING,
}


def refused(place: str, durable: str, stream: str, error: JetrunnerError) -> JetrunnerError:
    """The same kind of error, with the function that it is about, named as `<file>:<line>: <function>`."""
    if not isinstance(error, ServerError):
        return JetrunnerError(f"{place}: {error}", hint=error.hint)
    hint = error.hint or HINTS.get(error.code, "")
    if isinstance(error, PermissionDenied) and not hint:
        hint = "`runner permissions` prints what a runner needs"
    return type(error)(f"{place}: durable {durable} on {stream}: {error}", code=error.code, hint=hint)


async def require_room(
    connection: Connection,
    place: str,
    stream: str,
    config: Mapping[str, Any],
    shards: tuple[str, int],
    subject: str,
) -> None:
    """Check that the stream has room for the durables of a function's shards, which are made later. Raises UsageError.

    `config` is the stream's config; `shards` is the prefix of the durables' names, and their number.
    """
    most, queue = config.get("max_consumers") or -1, config.get("retention") == "workqueue"
    if most <= 0 and not queue:
        return
    prefix, count = shards
    try:
        infos = await consumers_on(connection, stream)
    except PermissionDenied:
        return
    others = [each for each in infos if not each["name"].startswith(prefix)]
    if most > 0 and len(others) + count > most:
        raise UsageError(
            f"{place}: it has {count} durables on {stream}, one a shard, beside {len(others)} consumers, and the stream takes {most}",
            hint=MORE_CONSUMERS,
        )
    for each in others if queue else ():
        if any(overlaps(subject, theirs) for theirs in subjects_of(each["config"]) or (">",)):
            raise UsageError(
                f"{place}: consumer {each['name']} reads messages of {stream} that it reads", hint=OVERLAPPING
            )
