"""The streams that Jetrunner keeps for itself: for messages sent back or delayed, dead letters, parked messages, parts and errors.

Its bucket is such a stream, too.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

from runner.errors import JetrunnerError, PermissionDenied, ServerError, Unconfirmed
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.publisher import unanswered, unled

log = logging.getLogger("jetrunner.streams")

AGAIN = "JETRUNNER"
DEADLETTERS = "DEADLETTERS"
PARKED = "PARKED"
GATHER = "GATHER"
ERRORS = "JETRUNNER_ERRORS"
BUCKET = "jetrunner"
BUCKET_STREAM = f"KV_{BUCKET}"
DAY = 24 * 3600 * 10**9
GIVEN = frozenset(
    {
        "subjects",
        "retention",
        "allow_msg_ttl",
        "allow_msg_schedules",
        "allow_direct",
        "discard_new_per_subject",
    }
)
"""Settings that must be as we want them; limits and replicas are for the operator to change."""
MADE = "jetrunner.made"
"""The key in a stream's metadata for a number that each CREATE has for itself."""
REMOVED_SECONDS = 0.3
"""Time for the server to remove the files of a deleted stream: some 10 ms, and more on a busy machine."""
WINDOW = "duplicates window"
HINTS = {
    codes.MAXIMUM_STREAMS: "raise max_streams of the account, or remove streams that nothing needs",
    codes.MAX_BYTES_REQUIRED: "make {} with max_bytes: a stream that exists keeps its limits",
    codes.STREAM_OFFLINE: "start the servers that hold {}",
}

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
        "discard_new_per_subject": False,  # nats-server 2.12 would refuse the second record of an event
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
        "max_msgs": 10_000,  # of at most 4 KiB each
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


async def restore(connection: Connection, name: str, *, must: bool = False) -> None:
    """`ensure` one of our streams that a call did not find; if it has to be made, wait 0.3 s first.

    nats-server 2.15.1 tells that a stream is gone while it still removes the files. A stream of the same name that is made in that
    moment fails (7 of 200 times), or loses its own files and stores nothing until the server is started again. A process that
    starts in just that moment does not wait.
    """
    if await ensure(connection, name, must=must, pause=REMOVED_SECONDS):
        log.warning("stream %s was deleted, and is created again", name)


async def ensure(connection: Connection, name: str, *, must: bool = False, pause: float = 0.0) -> bool:
    """Make sure of one of our streams; gives whether it was made now, after a `pause` in seconds.

    It is made only where the server says that it is not there, or does not let us ask: no answer says nothing, and is raised. An
    existing stream keeps its limits and replicas. One that may not be made is taken to exist; with `must`, PermissionDenied is
    raised instead.
    """
    wanted = {**STREAMS[name], "num_replicas": connection.replicas}
    if (existing := await _existing(connection, name)) is not None:
        await _fit(connection, name, existing, wanted)
        return False
    await asyncio.sleep(pause)
    # In a cluster, a server up to 2.12.9 or 2.14.4 takes an equal CREATE of a stream that exists for a change of its time of
    # creation, by which messages are known; a server that was away may then delete its copy. One that differs is refused.
    only = {"metadata": {MADE: os.urandom(8).hex()}}
    try:
        await connection.api(f"STREAM.CREATE.{name}", wanted | only)
    except PermissionDenied:
        if must:
            raise
        told = "no permission to create stream %s; it is assumed to exist"
        connection.news.warn(log, told, name, about=name)
        return False
    except ServerError as error:
        # The server looks at what is asked for before it looks whether the stream exists: another instance may have made it.
        taken = error.code == codes.STREAM_NAME_IN_USE
        if taken:  # in a cluster, the servers of a new stream answer for it only after a moment (the server's source)
            await asyncio.sleep(REMOVED_SECONDS)
        vain = unanswered(error) or error.code in codes.NO_JETSTREAM
        existing = None if vain else await _existing(connection, name)
        if existing is not None:
            await _fit(connection, name, existing, wanted)
        elif not taken:  # else it is there, and we may not read its settings
            raise _refused(name, wanted, "created", error) from None
        return False
    return True


async def _existing(connection: Connection, name: str) -> dict[str, Any] | None:
    """The configuration of one of our streams; None if the server says that it does not exist, or does not let us ask."""
    try:
        config: dict[str, Any] = (await connection.api(f"STREAM.INFO.{name}"))["config"]
    except ServerError as error:
        if error.code == codes.STREAM_NOT_FOUND or isinstance(error, PermissionDenied):
            return None
        raise _refused(name, STREAMS[name], "read", error) from None
    return config


async def _fit(connection: Connection, name: str, existing: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Update the settings of one of our streams that must be as we want them."""
    missing = {
        field: wanted[field]
        for field in GIVEN & wanted.keys()
        if existing.get(field, False) != wanted[field]  # the server leaves out what is false
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
            log.warning(
                "no permission to update stream %s; features that need its new settings do not work", name
            )
        except ServerError as error:
            raise _refused(name, wanted, "updated", error) from None


def _refused(name: str, wanted: Mapping[str, Any], what: str, error: ServerError) -> JetrunnerError:
    """The same error, with the stream that it is about, and what can be done."""
    if isinstance(error, (PermissionDenied, Unconfirmed)):
        return error  # it names the subject
    text, hint = f"stream {name} cannot be {what}: {error}", error.hint
    if error.code == codes.SUBJECTS_OVERLAP:
        subjects = ", ".join(wanted["subjects"])
        return JetrunnerError(
            text, hint=f"another stream captures {subjects}; give that one narrower subjects"
        )
    if error.code in codes.FEW_SERVERS:
        text = f"stream {name} with {wanted['num_replicas']} replicas cannot be {what}: {error}"
    elif error.code == codes.INVALID_CONFIG and WINDOW in str(error):
        hint = f"make {name} with a shorter duplicate_window, or raise that limit of the server: a stream that exists keeps its own"
    else:
        hint = HINTS.get(error.code, hint).format(name)
    return type(error)(text, code=error.code, hint=hint)


async def ensure_all(connection: Connection, replicas: int = 1, *, gathers: bool = False) -> None:
    """Make sure of all our streams, with so many replicas if they are made now or later; of `GATHER` only if it `gathers`."""
    connection.replicas = replicas
    for name in STREAMS:
        if name == ERRORS:
            await _ensure_errors(connection)
        elif name != GATHER or gathers:
            await ensure(connection, name)


async def _ensure_errors(connection: Connection) -> None:
    """Make sure of the stream of errors. A failure is only logged: an account without room for one more stream runs without it."""
    try:
        await ensure(connection, ERRORS)
    except JetrunnerError as error:
        yet = " yet" if isinstance(error, ServerError) and unled(error) else ""
        log.warning("errors of failed attempts cannot be kept%s: %s", yet, error)
