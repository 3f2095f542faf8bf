"""Names on the wire: of projects, durables, subjects and messages."""

from __future__ import annotations

import hashlib
import re

from runner.core.subject import problem

_PROJECT = re.compile(r"[A-Za-z0-9_-]+")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
LONGEST_HOST = 63
LONGEST_KEY = 200
"""Bytes of a key that stands in a subject as it is: any key, with what stands before it, fits into a control line."""
HASHED = "~"


def project_name(raw: str) -> str:
    """Give a project's name as it stands in NATS: dots become dashes; ValueError when it still is none."""
    name = raw.replace(".", "-")
    if not _PROJECT.fullmatch(name):
        raise ValueError(f"project name {raw!r} may hold letters, digits, dots, dashes and underscores only")
    return name


def durable(project: str, function: str) -> str:
    """Name the durable consumer of a function. A function's name holds no dash, so no two functions share one."""
    return f"{project}-{function}"


def dead_subject(project: str, function: str) -> str:
    """Name the subject that stores a function's dead letters."""
    return f"deadletters.{project}.{function}"


def again_subject(project: str, function: str) -> str:
    """Name the subject that a message is sent to, to run again in this function alone."""
    return f"$JETRUNNER.again.{project}.{function}"


def error_subject(project: str, function: str, stream: str, sequence: int | str) -> str:
    """Name the subject that holds what a message has last failed with, while it is to be retried."""
    return f"$JETRUNNER.error.{project}.{function}.{stream}.{sequence}"


def errors_of(project: str, function: str) -> str:
    """Name what matches the above of all messages of a function."""
    return f"$JETRUNNER.error.{project}.{function}.>"


def schedule_subject(project: str, function: str) -> str:
    """Name the subject that holds a function's schedule; with `*` for the function, those of all."""
    return f"$JETRUNNER.cron.{project}.{function}"


def tick_subject(project: str, function: str) -> str:
    """Name the subject that the server publishes a function's firings to."""
    return f"$JETRUNNER.tick.{project}.{function}"


def firings_key(project: str, function: str) -> str:
    """Name the bucket's key that tells which firings of a function were started."""
    return f"cron.{project}.{function}"


def event_subject(project: str, function: str, batch: str) -> str:
    """Give what the subjects begin with that hold a split event until a function joins it; `*` stands for all events."""
    return f"$JETRUNNER.gather.{project}.{function}.{batch}"


def expiry_subject(project: str, function: str, batch: str) -> str:
    """Name the subject that holds the schedule of the end of an event's time; `*` stands for all events."""
    return f"$JETRUNNER.expire.{project}.{function}.{batch}"


def key_token(key: str) -> str:
    """Give a key as it stands in a subject of ours: itself, or a hash of it where it is long, or cannot stand in one.

    The server takes a literal `*`, and control characters. One that begins as a hash does is hashed, too: no key has
    another's subject.
    """
    raw = key.encode("utf-8", "surrogateescape")
    if len(raw) <= LONGEST_KEY and not key.startswith(HASHED) and problem(key) is None:
        return key
    return HASHED + hashlib.blake2b(raw, digest_size=16).hexdigest()


def parked_subject(project: str, function: str, key: str = "") -> str:
    """Name the subject that stores a key's parked messages; a key of several tokens is several tokens here too.

    Without a key: what matches those of all keys, of all functions if that is `*`.
    """
    return f"parked.{project}.{function}.{key_token(key) if key else '>'}"


def message_id(stream: str, sequence: int) -> str:
    """Name a message for users: the same in every attempt and redrive."""
    return f"{stream}:{sequence}"


def output_id(
    stream: str, sequence: int, timestamp_ns: int, project: str, function: str, number: int | str
) -> str:
    """Make the `Nats-Msg-Id` of an output: the same whenever the same input makes it, and of no other input.

    The timestamp tells apart a stream's messages from those of its namesake before it was deleted and made anew.
    """
    return f"{stream}:{sequence}.{timestamp_ns}:{project}-{function}:{number}"


def instance(host: str, pid: int, token: str = "") -> str:
    """Name a process: one token of a subject, whatever its host is called."""
    return "-".join([_UNFIT.sub("-", host)[:LONGEST_HOST] or "host", str(pid), *filter(None, [token])])


def alive_subject(project: str, instance: str) -> str:
    """Name the subject that a process answers on as long as it lives."""
    return f"jetrunner.{project}.alive.{instance}"


def lease_key(project: str, instance: str) -> str:
    """Name the bucket's key that holds the lease of a process with ordered functions."""
    return f"member.{project}.{instance}"


def shard_durable(project: str, function: str, generation: int, shard: int) -> str:
    """Name the durable consumer of one shard of an ordered function."""
    return f"{project}-{function}-{generation}-{shard}"
