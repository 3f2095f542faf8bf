"""Delayed publishes: scheduled by the server in our own stream, then relayed to where they are meant to go.

The schedule's message (`$JETRUNNER.delayed.<project>.<id>`) becomes one on `$JETRUNNER.due.<project>` at its time, headers and body as
they are; a durable that all instances share relays it with the Msg-Id it was given first. So no user's stream needs
to allow schedules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC

from runner.core import header, shown
from runner.core.subject import is_reserved
from runner.jetstream import ownstreams
from runner.jetstream.publisher import Outgoing
from runner.staged import Staged

STREAM = ownstreams.AGAIN
TARGET = "Jetrunner-Delayed-Subject"
MESSAGE_ID = "Jetrunner-Delayed-Msg-Id"


def schedule(project: str, staged: Staged, message_id: str, pairs: Iterable[tuple[str, str]]) -> Outgoing:
    """The message that makes the server publish `staged` at its time."""
    assert staged.at is not None
    at = staged.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    key = hashlib.blake2b(message_id.encode(), digest_size=16).hexdigest()
    headers = (
        *pairs,
        ("Nats-Schedule", f"@at {at}"),
        ("Nats-Schedule-Target", due_subject(project)),
        (TARGET, staged.subject),
        # Not the id itself: in the target stream, an output of the same run may have the same id.
        (MESSAGE_ID, f"{message_id}:delayed"),
        ("Nats-Msg-Id", message_id),
    )
    return Outgoing(f"$JETRUNNER.delayed.{project}.{key}", staged.body, headers)


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
    kept = [pair for pair in header.forwarded(pairs) if pair[0] not in (TARGET, MESSAGE_ID)]
    return Outgoing(target, body, (*kept, ("Nats-Msg-Id", named[MESSAGE_ID])))
