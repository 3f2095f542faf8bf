"""The origin of a message that was sent back to one function: its first stream, sequence, time and subject.

So the function sees the message as it was, and the message's outputs get the same ids as the first time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from runner.core import checked, header
from runner.core.checked import Count, Stream, Told

PREFIX = "Jetrunner-Origin-"
STREAM = "Jetrunner-Origin-Stream"
SEQUENCE = "Jetrunner-Origin-Sequence"
TIMESTAMP = "Jetrunner-Origin-Timestamp"
SUBJECT = "Jetrunner-Origin-Subject"
MESSAGE_ID = "Jetrunner-Origin-Msg-Id"

_BREAK = re.compile(r"[\r\n]")
"""The server accepts either of them alone in a subject and in a header; in a header block of ours it would begin a new line."""
_OWN = ("jetrunner-dead-", STREAM.lower(), SEQUENCE.lower(), TIMESTAMP.lower(), SUBJECT.lower())


class Origin(Struct, frozen=True):
    """A message's place before it was sent back."""

    stream: Stream
    sequence: Count
    timestamp_ns: Count
    """When its stream stored the message, in nanoseconds of Unix time."""
    subject: Told

    def same(self, other: Origin | None) -> bool:
        """Whether both are the same message; the subject is not compared, because its characters may have been changed."""
        return other is not None and (self.stream, self.sequence, self.timestamp_ns) == (
            other.stream,
            other.sequence,
            other.timestamp_ns,
        )


def carried(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep a message's own headers for a copy, without those of a dead letter, of an earlier origin, or of the server.

    The copy has the message's `Nats-Msg-Id` as `Jetrunner-Origin-Msg-Id`.
    """
    given = [(name, _BREAK.sub(" ", value)) for name, value in headers]
    kept = [pair for pair in header.forwarded(given) if not pair[0].lower().startswith(_OWN)]
    if not any(name.lower() == MESSAGE_ID.lower() for name, _ in kept):
        kept += [(MESSAGE_ID, value) for name, value in given if name.lower() == "nats-msg-id"][:1]
    return kept


def build(origin: Origin, headers: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Make the headers of a message sent back: the carried ones of `headers`, then its origin."""
    return [
        *carried(headers),
        (STREAM, origin.stream),
        (SEQUENCE, str(origin.sequence)),
        (TIMESTAMP, str(origin.timestamp_ns)),
        (SUBJECT, _BREAK.sub(" ", origin.subject)),
    ]


def read(headers: Mapping[str, str]) -> Origin | None:
    """Read a message's origin; None when the message was not sent back, or its origin is incomplete or malformed."""
    stream = checked.name(headers.get(STREAM, ""), Stream)
    sequence = checked.number(headers.get(SEQUENCE, ""))
    timestamp_ns = checked.number(headers.get(TIMESTAMP, "0"))
    subject = checked.subject(headers.get(SUBJECT, ""))
    if not stream or sequence is None or timestamp_ns is None or not subject:
        return None
    return Origin(stream, sequence, timestamp_ns, subject)
