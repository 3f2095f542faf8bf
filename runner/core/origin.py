"""Where a message came from that was sent back to one function: its first stream, sequence, time and subject.

With them the function sees the message as it was, and its outputs get the ids they had the first time.
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
"""The server takes either alone, in a subject and in a header; in a block of ours it would begin a line."""
_OWN = ("jetrunner-dead-", STREAM.lower(), SEQUENCE.lower(), TIMESTAMP.lower(), SUBJECT.lower())


class Origin(Struct, frozen=True):
    """A message's place before it was sent back."""

    stream: Stream
    sequence: Count
    timestamp_ns: Count
    """When its stream stored it, in nanoseconds of Unix time."""
    subject: Told

    def same(self, other: Origin | None) -> bool:
        """Whether it is the same message; its subject may have been told with other characters."""
        return other is not None and (self.stream, self.sequence, self.timestamp_ns) == (
            other.stream,
            other.sequence,
            other.timestamp_ns,
        )


def carried(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep a message's own headers for a copy: none of a dead letter's, an earlier origin's, or the server's.

    Its `Nats-Msg-Id` stays readable as `Jetrunner-Origin-Msg-Id`.
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
    """Read a message's origin; None when it was not sent back, or its origin is not whole, or no place in any stream."""
    stream = checked.name(headers.get(STREAM, ""), Stream)
    sequence = checked.number(headers.get(SEQUENCE, ""))
    timestamp_ns = checked.number(headers.get(TIMESTAMP, "0"))
    subject = checked.subject(headers.get(SUBJECT, ""))
    if not stream or sequence is None or timestamp_ns is None or not subject:
        return None
    return Origin(stream, sequence, timestamp_ns, subject)
