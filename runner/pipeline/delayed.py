"""Delayed publishes: scheduled by the server in our own stream, then relayed to where they are meant to go.

The schedule's message (`$JETRUNNER.delayed.<project>.<id>`) becomes one on `$JETRUNNER.due.<project>` at its time, headers and body as
they are; a durable that all instances share relays it with the Msg-Id it was given first. So no user's stream needs
to allow schedules.

Of the headers that the server acts on, only `Nats-TTL` goes on. It waits under a name of ours: in the schedule it would remove that
before its time. It counts from the relay on. The others are dropped. A rollup would be published with the runner's rights for anybody
who may publish with a delay, and purge a stream; what a handler expects of a stream holds for the moment in which it runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

from runner.core import header, shown, ttl
from runner.core.subject import is_reserved
from runner.errors import ServerError
from runner.jetstream import codes, ownstreams
from runner.jetstream.publisher import Outgoing
from runner.staged import Staged

STREAM = ownstreams.AGAIN
TARGET = "Jetrunner-Delayed-Subject"
MESSAGE_ID = "Jetrunner-Delayed-Msg-Id"
TTL = "Jetrunner-Delayed-TTL"
_OWN = frozenset({TARGET, MESSAGE_ID, TTL})


def schedule(project: str, staged: Staged, message_id: str, pairs: Iterable[tuple[str, str]]) -> Outgoing:
    """The message that makes the server publish `staged` at its time. Raises ValueError for a TTL that no stream takes."""
    assert staged.at is not None
    at = staged.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    given = [*pairs]
    lives = dict(given).get(ttl.HEADER)
    if lives is not None and not ttl.is_taken(lives):
        raise ValueError(
            f'{ttl.HEADER} is not {lives!r}: write "90", "1h30m" or "never", and no less than a second'
        )
    key = hashlib.blake2b(message_id.encode(), digest_size=16).hexdigest()
    headers = (
        *_kept(given),
        *([(TTL, lives)] if lives is not None else ()),
        ("Nats-Schedule", f"@at {at}"),
        ("Nats-Schedule-Target", due_subject(project)),
        (TARGET, staged.subject),
        # Not the id itself: in the target stream, an output of the same run may have the same id.
        (MESSAGE_ID, f"{message_id}:delayed"),
        ("Nats-Msg-Id", message_id),
    )
    return Outgoing(f"$JETRUNNER.delayed.{project}.{key}", staged.body, headers)


def require_ttl(pairs: Iterable[tuple[str, str]], stream: str, config: Mapping[str, Any]) -> None:
    """Raise `ServerError` if the headers of a delayed message have a TTL, and the stream that it is for allows none."""
    if ttl.HEADER in dict(pairs) and not config.get("allow_msg_ttl"):
        raise ServerError(
            f"an output has the header {ttl.HEADER}, which stream {stream} does not allow",
            code=codes.TTL_DISABLED,
            hint="set allow_msg_ttl = true on the stream",
        )


def due_subject(project: str) -> str:
    """The subject on which the server publishes a delayed message at its time."""
    return f"$JETRUNNER.due.{project}"


def due(pairs: Sequence[tuple[str, str]], body: bytes, is_inbox: Callable[[bytes], bool]) -> Outgoing | str:
    """The message to publish for a delayed one that is due, or the reason why none is published."""
    named = dict(pairs)
    if TARGET not in named or MESSAGE_ID not in named:
        return "it does not say where it goes"
    target = named[TARGET]
    if is_reserved(target) or is_inbox(
        target.encode("utf-8", "surrogateescape")
    ):  # with our rights, for somebody who may only publish with a delay
        return f"it does not go there: {shown.line(target)} is a subject of the server's or of Jetrunner's"
    lives = named.get(TTL, "")
    own = [(ttl.HEADER, lives)] if ttl.is_taken(lives) else []
    return Outgoing(target, body, (*_kept(pairs), *own, ("Nats-Msg-Id", named[MESSAGE_ID])))


def _kept(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that go on as they are."""
    return [pair for pair in header.forwarded(pairs) if pair[0] not in _OWN]
