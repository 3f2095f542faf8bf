"""Names on the wire: names of projects, durables, subjects and messages."""

from __future__ import annotations

import hashlib
import re

from runner.core.subject import problem

_PROJECT = re.compile(r"[A-Za-z0-9_-]+")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
LONGEST_HOST = 63
LONGEST_KEY = 200
"""Most bytes of a key that is written into a subject as it is; so the whole subject fits into a control line."""
HASHED = "~"


def project_name(raw: str) -> str:
    """Give a project's name as NATS has it: dots become dashes; ValueError when that is not a valid name."""
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
    """Name the subject of messages that shall run again in this function alone."""
    return f"$JETRUNNER.again.{project}.{function}"


def error_subject(project: str, function: str, stream: str, sequence: int | str) -> str:
    """Name the subject that holds a message's last error while the message is to be retried."""
    return f"$JETRUNNER.error.{project}.{function}.{stream}.{sequence}"


def errors_of(project: str, function: str) -> str:
    """Name the pattern of the error subjects of all messages of a function."""
    return f"$JETRUNNER.error.{project}.{function}.>"


def schedule_subject(project: str, function: str) -> str:
    """Name the subject that holds a function's schedule; `*` stands for all functions."""
    return f"$JETRUNNER.cron.{project}.{function}"


def tick_subject(project: str, function: str) -> str:
    """Name the subject that the server publishes a function's firings to."""
    return f"$JETRUNNER.tick.{project}.{function}"


def firings_key(project: str, function: str) -> str:
    """Name the bucket's key that tells which firings of a function were started."""
    return f"cron.{project}.{function}"


def event_subject(project: str, function: str, batch: str) -> str:
    """Name the beginning of the subjects that hold a split event until a function joins it; `*` stands for all events."""
    return f"$JETRUNNER.gather.{project}.{function}.{batch}"


def expiry_subject(project: str, function: str, batch: str) -> str:
    """Name the subject of the schedule that ends an event's time; `*` stands for all events."""
    return f"$JETRUNNER.expire.{project}.{function}.{batch}"


def key_token(key: str) -> str:
    """Give a key as the runner's subjects have it: the key itself, or a hash if it is long or cannot stand in a subject.

    Keys may have a literal `*` or control characters, because the server accepts them. A key that begins like a hash is hashed,
    too, so that no two keys have the same subject.
    """
    raw = key.encode("utf-8", "surrogateescape")
    if len(raw) <= LONGEST_KEY and not key.startswith(HASHED) and problem(key) is None:
        return key
    return HASHED + hashlib.blake2b(raw, digest_size=16).hexdigest()


def parked_subject(project: str, function: str, key: str = "") -> str:
    """Name the subject that stores a key's parked messages; a key of several tokens is several tokens here too.

    Without a key: the pattern of all keys of the function; of all functions if the function is `*`.
    """
    return f"parked.{project}.{function}.{key_token(key) if key else '>'}"


def message_id(stream: str, sequence: int) -> str:
    """Name a message for users: the same in every attempt and redrive."""
    return f"{stream}:{sequence}"


def output_id(
    stream: str, sequence: int, timestamp_ns: int, project: str, function: str, number: int | str
) -> str:
    """Make the `Nats-Msg-Id` of an output: the same input always gives the same id, and no other input gives it.

    The timestamp distinguishes a stream's messages from those of an earlier stream of the same name.
    """
    return f"{stream}:{sequence}.{timestamp_ns}:{project}-{function}:{number}"


FIRST_OUTPUT = b"%b:%d.%b:%b:0"
"""The id of a message's first output, as bytes: stream, sequence, timestamp in nanoseconds, and `<project>-<function>`."""


def instance(host: str, pid: int, token: str = "") -> str:
    """Name a process: the name is one token of a subject, whatever its host is called."""
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
