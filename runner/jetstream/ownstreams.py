"""The streams Jetrunner keeps for itself: again and delayed messages, dead letters, parked messages, errors, and its bucket."""

from __future__ import annotations

import logging
from typing import Any

from runner.errors import JetrunnerError, PermissionDenied, ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection

log = logging.getLogger("jetrunner.streams")

AGAIN = "JETRUNNER"
DEADLETTERS = "DEADLETTERS"
PARKED = "PARKED"
GATHER = "GATHER"
ERRORS = "JETRUNNER_ERRORS"
BUCKET = "jetrunner"
BUCKET_STREAM = f"KV_{BUCKET}"
DAY = 24 * 3600 * 10**9
GIVEN = frozenset({"subjects", "retention", "allow_msg_ttl", "allow_msg_schedules", "allow_direct"})
"""What must be as we want it; limits and replicas are the operator's to change."""

STREAMS: dict[str, dict[str, Any]] = {
    AGAIN: {
        "name": AGAIN,
        "description": "Jetrunner: messages sent back to one function, delayed publishes, and schedules",
        "subjects": [
            "$JETRUNNER.again.>",
            "$JETRUNNER.delayed.>",
            "$JETRUNNER.due.>",
            "$JETRUNNER.cron.>",
            "$JETRUNNER.tick.>",
            "$JETRUNNER.expire.>",
        ],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": 0,
        "allow_direct": True,
        "allow_atomic": True,
        "allow_msg_ttl": True,
        "allow_msg_schedules": True,
        "duplicate_window": 15 * 60 * 10**9,
    },
    DEADLETTERS: {
        "name": DEADLETTERS,
        "description": "Jetrunner: messages that no retry can help",
        "subjects": ["deadletters.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": 30 * DAY,
        "allow_direct": True,
        "duplicate_window": 15 * 60 * 10**9,
    },
    PARKED: {
        "name": PARKED,
        "description": "Jetrunner: later messages of keys whose message was given up",
        "subjects": ["parked.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_age": 0,
        "allow_direct": True,
        "duplicate_window": 15 * 60 * 10**9,
    },
    GATHER: {
        "name": GATHER,
        "description": "Jetrunner: parts of split events that wait to be joined",
        "subjects": ["$JETRUNNER.gather.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "discard_new_per_subject": True,
        "max_msgs_per_subject": 1,
        "max_age": 0,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": True,
        "duplicate_window": 2 * 60 * 10**9,
    },
    ERRORS: {
        "name": ERRORS,
        "description": "Jetrunner: what attempts have failed with that are to be retried",
        "subjects": ["$JETRUNNER.error.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_msgs": 10_000,  # of 4 KiB at most
        "max_age": 7 * DAY,
        "allow_direct": True,
        "duplicate_window": 2 * 60 * 10**9,
    },
    BUCKET_STREAM: {
        "name": BUCKET_STREAM,
        "description": "Jetrunner: ack floors, and starts of messages that may kill their process",
        "subjects": [f"$KV.{BUCKET}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_msg_ttl": True,
        "duplicate_window": 2 * 60 * 10**9,
    },
}


async def ensure(connection: Connection, name: str, *, must: bool = False) -> None:
    """The stream is there afterwards; one that exists keeps its limits and replicas.

    Where it may not be made, it is taken to exist; with `must` that raises PermissionDenied.
    """
    wanted = {**STREAMS[name], "num_replicas": connection.replicas}
    try:
        await connection.api(f"STREAM.CREATE.{name}", wanted)
        return
    except PermissionDenied:
        if must:
            raise
        log.warning("not allowed to create stream %s; it is taken to exist", name)
        return
    except ServerError as error:
        if error.code == codes.SUBJECTS_OVERLAP:
            raise JetrunnerError(
                f"stream {name} cannot be created: {error}",
                hint=f"another stream captures {', '.join(wanted['subjects'])}; give that one narrower subjects",
            ) from None
        if error.code != codes.STREAM_NAME_IN_USE:
            raise
    existing = (await connection.api(f"STREAM.INFO.{name}"))["config"]
    missing = {
        field: wanted[field] for field in GIVEN & wanted.keys() if existing.get(field) != wanted[field]
    }
    if "subjects" in missing:
        missing["subjects"] = sorted({*existing.get("subjects", ()), *wanted["subjects"]})
        if missing["subjects"] == sorted(existing.get("subjects", ())):
            del missing["subjects"]
    if missing:
        log.warning("stream %s is updated: %s", name, ", ".join(sorted(missing)))
        try:
            await connection.api(f"STREAM.UPDATE.{name}", {**existing, **missing})
        except PermissionDenied:
            log.warning("not allowed to update stream %s; what needs these settings does not work", name)


async def ensure_all(connection: Connection, replicas: int = 1, *, gathers: bool = False) -> None:
    """Our own streams are there afterwards, with so many replicas where they are made, now or later; `GATHER` where it is needed."""
    connection.replicas = replicas
    for name in STREAMS:
        if name == ERRORS:
            await _ensure_errors(connection)
        elif name != GATHER or gathers:
            await ensure(connection, name)


async def _ensure_errors(connection: Connection) -> None:
    """Nothing waits for it: an account that has no room for one stream more runs without it."""
    try:
        await ensure(connection, ERRORS)
    except JetrunnerError as error:
        log.warning("what attempts to be retried have failed with is not kept: %s", error)
