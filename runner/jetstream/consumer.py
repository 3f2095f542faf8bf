"""Durable consumers: they are made, differences are logged, and updates are explicit, never silent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import structs

from runner.core import checked, identity, sharding
from runner.core.sharding import Sharding
from runner.errors import JetrunnerError, ServerError, Unconfirmed
from runner.jetstream import codes
from runner.jetstream.connection import Connection

log = logging.getLogger("jetrunner.consumer")

ACK_WAIT_SECONDS = 10.0
SHARD_ACK_WAIT_SECONDS = 60.0
BEING_REMOVED = "no such file or directory"
"""nats-server says this while it still removes the folder of a consumer of the same name (seen on 2.15.1); a later try succeeds."""
IMMUTABLE = frozenset({"deliver_policy", "opt_start_seq", "ack_policy", "replay_policy", "max_waiting"})
"""The fields of a consumer that the server refuses to change (measured on 2.15)."""


OFF: dict[str, Any] = {
    "backoff": [],
    "headers_only": False,
    "inactive_threshold": 0,
    "priority_groups": [],
    "priority_policy": "none",
    "priority_timeout": 0,
}
"""Settings that a durable must not have, each with its empty value: delays that the server adds up wrongly, no bodies, an end by
inactivity, and pull groups, which the server gives up only together with their policy and timeout.
"""
REVISION = 1
"""The revision of the settings that Jetrunner wants for a durable; raised whenever these change."""
REVISED = "jetrunner.revision"
"""The key in a durable's metadata for the revision that made it."""
FILTERS = frozenset({"filter_subject", "filter_subjects"})


class ConsumerConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields that Jetrunner sets, by their NATS names; durations are in nanoseconds.

    `backoff` stays unset: together with `nak(delay)` the server adds the two up wrongly (measured). `max_deliver` is unlimited: the
    runner gives up on a message, never the server.
    """

    durable_name: str
    name: str
    ack_policy: str
    deliver_policy: str
    ack_wait: int
    max_deliver: int
    max_ack_pending: int
    max_waiting: int
    metadata: dict[str, str]
    opt_start_seq: int = 0
    filter_subject: str = ""
    filter_subjects: tuple[str, ...] = ()
    """Used if there are several filters; the server takes only one of the two fields."""


def config(
    durable: str,
    subject: str,
    deliver: str,
    function: str,
    *,
    reads: Literal["subject", "shards", "stream"] = "subject",
    start: int = 0,
) -> ConsumerConfig:
    """The settings of a function's consumer; with `reads="shards"` it reads the subject in all shards of all generations.

    `"stream"` sets no filter, for a subject that covers the whole stream: filters that begin with wildcards cost the server up to
    100 times as much (measured on 2.15, 10,000 subjects). A `start` other than 0 is the first stream sequence.
    """
    filters: tuple[str, ...] = () if reads == "stream" else (subject,)
    if reads == "shards":
        filters = tuple(sharding.filters(subject))
    return ConsumerConfig(
        durable_name=durable,
        name=durable,
        filter_subject=filters[0] if len(filters) == 1 else "",
        filter_subjects=filters if len(filters) > 1 else (),
        ack_policy="explicit",
        deliver_policy="by_start_sequence" if start else deliver,
        opt_start_seq=start,
        ack_wait=int(ACK_WAIT_SECONDS * 1e9),
        max_deliver=-1,
        max_ack_pending=-1,
        max_waiting=4096,
        metadata={"jetrunner.function": function, REVISED: str(REVISION)},
    )


def of_shard(
    project: str, function: str, subject: str, generation: int, number: int, start: int = 0
) -> ConsumerConfig:
    """The settings of the consumer of one shard, for an ordered function that reads `subject`, as published."""
    durable = identity.shard_durable(project, function, generation, number)
    made = config(durable, sharding.shard_filter(subject, generation, number), "all", function, start=start)
    return structs.replace(made, ack_wait=int(SHARD_ACK_WAIT_SECONDS * 1e9))


def of_shards(
    project: str, function: str, subject: str, shards: Sharding, start: int = 0
) -> list[ConsumerConfig]:
    """The settings of the consumers of all shards of a generation."""
    numbers = range(shards.count)
    return [of_shard(project, function, subject, shards.generation, each, start) for each in numbers]


async def info(connection: Connection, stream: str, durable: str) -> dict[str, Any] | None:
    """The server's consumer info; None if there is no such consumer or stream."""
    try:
        return await connection.api(f"CONSUMER.INFO.{stream}.{durable}")
    except ServerError as error:
        if error.code in codes.NO_CONSUMER:
            return None
        raise


async def ensure(
    connection: Connection,
    stream: str,
    wanted: ConsumerConfig,
    existing: dict[str, Any] | None = None,
    *,
    refilter: bool = True,
) -> tuple[dict[str, Any], bool]:
    """Make sure of a consumer; gives its info, and whether it was created now. `existing` is its info, if it already exists.

    `existing` may be old, so the consumer's info is read again right before a change, because the server has no revisions of
    consumers. Without `refilter` the consumer keeps the filter that it has then. A difference is logged and then updated with
    `action: "update"`, because the server's other calls update silently. Fields that the server cannot change stay, with a warning;
    if messages would be lost by that, it is an error. A consumer of a later revision of Jetrunner keeps its settings, except for
    its filter. Raises JetrunnerError.
    """
    durable = wanted.durable_name
    body = msgspec.to_builtins(wanted)
    if existing is None:
        try:
            created = await connection.api(
                f"CONSUMER.CREATE.{stream}.{durable}",
                {"stream_name": stream, "config": body, "action": "create"},
            )
        except ServerError as error:
            if BEING_REMOVED in str(error):
                raise Unconfirmed(f"consumer {durable} is still being removed: {error}") from None
            if error.code != codes.CONSUMER_EXISTS:
                raise
            existing = await info(connection, stream, durable)
            if existing is None:
                raise Unconfirmed(f"consumer {durable} was deleted meanwhile") from None
        else:
            return created, True
    changes = _changes(existing["config"], body, refilter=refilter)
    if set(changes) - IMMUTABLE:
        existing = await info(connection, stream, durable) or existing
        changes = _changes(existing["config"], body, refilter=refilter)
    if why := unfit(existing["config"]):
        raise JetrunnerError(
            f"consumer {durable} on {stream} {why}",
            hint=f"delete it (nats consumer rm {stream} {durable}): it is made again, and goes on where the function was",
        )
    for field in sorted(set(changes) & IMMUTABLE):
        real, declared = changes.pop(field)
        log.warning(
            "consumer %s on %s keeps %s=%r: the server cannot change it to %r",
            durable, stream, field, real, declared,
        )  # fmt: skip
    if not changes:
        return existing, False
    try:
        updated = await update(connection, stream, existing["config"], changes)
    except ServerError as error:
        if (
            error.code == codes.CONSUMER_DOES_NOT_EXIST
        ):  # whoever asks again makes it, and knows where it begins
            raise Unconfirmed(f"consumer {durable} was deleted meanwhile") from None
        raise
    for field, (real, declared) in sorted(changes.items()):
        level = logging.DEBUG if field == "metadata" else logging.WARNING
        log.log(level, "consumer %s on %s: %s changes from %r to %r", durable, stream, field, real, declared)
    return updated, False


def _changes(real: dict[str, Any], wanted: dict[str, Any], *, refilter: bool) -> dict[str, tuple[Any, Any]]:
    """The changes to make; if the filter stays, the metadata stays, too."""
    found = differences(real, wanted)
    if not refilter and set(found) & FILTERS:
        return {field: change for field, change in found.items() if field not in {*FILTERS, "metadata"}}
    return found


async def update(
    connection: Connection, stream: str, existing: dict[str, Any], changes: dict[str, tuple[Any, Any]]
) -> dict[str, Any]:
    """Change these fields (field → (real, wanted)) and no others; returns the consumer's info."""
    merged = {**existing, **{field: declared for field, (_, declared) in changes.items()}}
    if "filter_subjects" in changes:
        merged.pop("filter_subject", None)
    elif "filter_subject" in changes:
        merged.pop("filter_subjects", None)
    return await connection.api(
        f"CONSUMER.CREATE.{stream}.{existing['durable_name']}",
        {"stream_name": stream, "config": merged, "action": "update"},
    )


async def remove(connection: Connection, stream: str, durable: str) -> None:
    """Remove a durable; no error if it is gone already."""
    try:
        await connection.api(f"CONSUMER.DELETE.{stream}.{durable}")
    except ServerError as error:
        if error.code not in codes.NO_CONSUMER:
            raise


def filters_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The filters in a consumer's configuration; empty: it reads everything."""
    one = config.get("filter_subject")
    return (one,) if one else tuple(config.get("filter_subjects") or ())


def unfit(config: Mapping[str, Any]) -> str:
    """Why no function can read with this consumer, in a way that the server cannot change; empty if one can."""
    if config.get("deliver_subject"):
        return "is a push consumer, and cannot be pulled from"
    if (policy := config.get("ack_policy")) != "explicit":
        return (
            f'has ack_policy "{policy}": what is delivered would count as done, and be lost with its process'
        )
    return ""


def paused(stream: str, info: Mapping[str, Any]) -> str:
    """Why the server delivers nothing of a consumer that somebody has paused; empty if nobody has."""
    if not info.get("paused"):
        return ""
    until = info["config"].get("pause_until", "an unknown time")
    return f"durable {info['name']} on {stream} is paused until {until}: nats consumer resume {stream} {info['name']}"


def refiltered(real: Mapping[str, Any], wanted: ConsumerConfig) -> bool:
    """Whether a consumer's filter differs from the wanted one."""
    return sorted(filters_of(real)) != sorted(filters_of(msgspec.to_builtins(wanted)))


def differences(real: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The differing fields: field → (real, wanted). A consumer that was made again at its ack floor counts as wanted."""
    found: dict[str, tuple[Any, Any]] = {}
    newer = _revision(real) > REVISION
    if not newer:
        found |= {
            field: (real[field], off) for field, off in OFF.items() if real.get(field) and real[field] != off
        }
    if "filter_subject" not in wanted and "filter_subjects" not in wanted:
        found |= {
            field: (real[field], None) for field in ("filter_subject", "filter_subjects") if real.get(field)
        }
    for field, value in wanted.items():
        current = real.get(field)
        if field == "metadata":
            missing = {
                key: text
                for key, text in value.items()
                if (current or {}).get(key) != text and not (newer and key == REVISED)
            }
            if missing:
                found[field] = (current, {**(current or {}), **missing})
        elif field in {"filter_subject", "filter_subjects"}:
            if sorted(filters_of(real)) != sorted(filters_of(wanted)):
                found[field] = (list(filters_of(real)) if field == "filter_subjects" else current, value)
        elif newer or (field == "deliver_policy" and current == "by_start_sequence"):
            continue
        elif current != value and field != "opt_start_seq":
            found[field] = (current, value)
    return found


def _revision(config: Mapping[str, Any]) -> int:
    return checked.number((config.get("metadata") or {}).get(REVISED, "0")) or 0
