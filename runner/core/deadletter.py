r"""Dead letters: how a message that was given up is stored, and how it is read back.

Rule 1: a dead letter is the original body and headers plus `Jetrunner-Dead-*`.
Rule 2: it always fits the limits of header and message size. To fit, its traceback is left out first, then copied headers (the
        largest first), then its body (`Jetrunner-Dead-Body: omitted`; traceback and headers stay if there is room then). The
        original message is found by its stream and sequence.
Rule 3: a header value is one line: control characters become spaces, but a traceback keeps its lines, written as
        `\n` (two characters), and a backslash of its own as two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct, structs

from runner.core import checked
from runner.core.checked import FunctionName, ProjectName, Stream
from runner.core.origin import Origin, carried
from runner.core.redaction import Rules

PREFIX = "Jetrunner-Dead-"
REASON = "Jetrunner-Dead-Reason"
ERROR = "Jetrunner-Dead-Error"
MESSAGE = "Jetrunner-Dead-Message"
TRACEBACK = "Jetrunner-Dead-Traceback"
STREAM = "Jetrunner-Dead-Stream"
SEQUENCE = "Jetrunner-Dead-Sequence"
TIMESTAMP = "Jetrunner-Dead-Timestamp"
SUBJECT = "Jetrunner-Dead-Subject"
ATTEMPTS = "Jetrunner-Dead-Attempts"
PROJECT = "Jetrunner-Dead-Project"
FUNCTION = "Jetrunner-Dead-Function"
TIME = "Jetrunner-Dead-Time"
BODY = "Jetrunner-Dead-Body"
HEADERS = "Jetrunner-Dead-Headers"
OMITTED = "omitted"

LONGEST_MESSAGE = 4_096
LONGEST_TRACEBACK = 32_768
"""In bytes; a longer traceback loses its beginning, because its last lines say most."""
LEAST_PAYLOAD = 1_024
"""The smallest room, in bytes, for which `fit` promises that the result fits."""
LONGEST_HEADERS = 65_535
"""Most bytes of headers that a stream accepts (measured on 2.15)."""

Pairs = list[tuple[str, str]]

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BREAK = re.compile(r"[\r\n]")
_ESCAPE = re.compile(r"\\(.)")
_BLOCK = len("NATS/1.0\r\n\r\n")


class DeathFacts(Struct, frozen=True, kw_only=True):
    """Why, where and when a message was given up."""

    project: str
    function: str
    stream: str
    """Stream, sequence, timestamp and subject are those of the original message, even if it was sent back since."""
    sequence: int
    timestamp_ns: int = 0
    """When the stream stored the original, in nanoseconds of Unix time; 0 when unknown."""
    subject: str
    attempts: int
    reason: str
    error: str = ""
    message: str = ""
    traceback: str = ""
    time: str
    """When it was given up, in ISO 8601."""


class GivenUp(Struct, frozen=True):
    """Why a message is given up."""

    attempts: int
    reason: str
    message: str = ""
    error: str = ""
    """The name of the exception's type."""
    traceback: str = ""


def facts(origin: Origin, now: datetime, project: str, function: str, why: GivenUp) -> DeathFacts:
    """Collect the facts of a message that a function gives up at `now`, in UTC."""
    return DeathFacts(
        project=project,
        function=function,
        stream=origin.stream,
        sequence=origin.sequence,
        timestamp_ns=origin.timestamp_ns,
        subject=origin.subject,
        time=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **structs.asdict(why),
    )


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A dead letter as read back; fields that its headers lack, or that are malformed, are empty or 0."""

    sequence: int
    """Its own sequence in `DEADLETTERS`; every other field but `time` is about the original message."""
    time: str
    project: str
    function: str
    stream: str
    origin_sequence: int
    timestamp_ns: int
    subject: str
    attempts: int
    reason: str
    error: str
    message: str
    traceback: str
    headers: dict[str, str]
    """The headers of the original message."""
    body: bytes
    body_omitted: bool
    headers_omitted: bool
    repeated: tuple[tuple[str, str], ...] = ()
    """The second and later headers of each name that the original message has more than once."""

    @property
    def origin(self) -> Origin:
        """The place of the original message, for sending it back."""
        return Origin(self.stream, self.origin_sequence, self.timestamp_ns, self.subject)


def redacted(letter: DeadLetter, rules: Rules) -> DeadLetter:
    """Hide secrets in a dead letter, to show it. The stored one keeps everything, because it goes back to its function."""
    kind = next((text for name, text in letter.headers.items() if name.lower() == "content-type"), "")
    hide = rules.values([*letter.headers.items(), *letter.repeated], letter.body, kind).hide
    return structs.replace(
        letter,
        error=hide(letter.error),
        message=hide(letter.message),
        traceback=hide(letter.traceback),
        headers=rules.headers(letter.headers),
        repeated=(),
        body=rules.body(letter.body, kind),
    )


def build(facts: DeathFacts, original: Iterable[tuple[str, str]]) -> Pairs:
    """Make the headers of a dead letter from its facts and its original's headers."""
    traceback = _tail(facts.traceback, LONGEST_TRACEBACK).replace("\\", "\\\\").replace("\n", "\\n")
    own = [
        (REASON, facts.reason),
        (ERROR, facts.error),
        (MESSAGE, _cut(facts.message, LONGEST_MESSAGE)),
        (STREAM, facts.stream),
        (SEQUENCE, str(facts.sequence)),
        (TIMESTAMP, str(facts.timestamp_ns)),
        (SUBJECT, facts.subject),
        (ATTEMPTS, str(facts.attempts)),
        (PROJECT, facts.project),
        (FUNCTION, facts.function),
        (TIME, facts.time),
        (TRACEBACK, traceback),
    ]
    pairs = [(name, _one_line(value)) for name, value in [*own, *carried(original)]]
    # The server accepts control characters in subjects: only line breaks are replaced, because another subject is another key.
    return [(name, _BREAK.sub(" ", facts.subject) if name == SUBJECT else value) for name, value in pairs]


def fit(headers: Pairs, body: bytes, room: int, taken: int = 0) -> tuple[Pairs, bytes]:
    """Drop and shorten until headers and body together have at most `room` bytes; `taken` of these are for further headers.

    That is promised for a room of LEAST_PAYLOAD or more, if project, function and stream have ordinary names.
    """
    room -= taken
    header_room = min(room, LONGEST_HEADERS - taken)
    # A body may not decode without its Content-Type: both are kept, or both dropped.
    shrunk = _shrunk(headers, min(room - len(body), header_room), keep="content-type")
    if shrunk is not None:
        return shrunk, body
    # Without the body, the headers may fit.
    headers = [*headers, (BODY, OMITTED)] if body else headers
    shrunk = _shrunk(headers, header_room, keep="")
    if shrunk is not None:
        return shrunk, b""
    own = [pair for pair in headers if _is_own(pair[0])]
    if len(own) < len(headers):
        own.append((HEADERS, OMITTED))
    headers = [pair for pair in own if pair[0] != TRACEBACK]
    for name in (MESSAGE, SUBJECT, ERROR):
        over = _size(headers) - header_room
        if over > 0:
            headers = [
                (each, _cut(text, _length(text) - over) if each == name else text) for each, text in headers
            ]
    return headers, b""


def read(
    headers: Mapping[str, str],
    body: bytes,
    sequence: int,
    time: str,
    repeated: tuple[tuple[str, str], ...] = (),
) -> DeadLetter:
    """Read a message of `DEADLETTERS`; never raises, whoever stored it. `time` is used when no header has the time."""
    return DeadLetter(
        sequence=sequence,
        time=headers.get(TIME, time),
        project=checked.name(headers.get(PROJECT, ""), ProjectName),
        function=checked.name(headers.get(FUNCTION, ""), FunctionName),
        stream=checked.name(headers.get(STREAM, ""), Stream),
        origin_sequence=checked.number(headers.get(SEQUENCE, "")) or 0,
        timestamp_ns=checked.number(headers.get(TIMESTAMP, "")) or 0,
        subject=checked.subject(headers.get(SUBJECT, "")),
        attempts=checked.number(headers.get(ATTEMPTS, "")) or 0,
        reason=headers.get(REASON, ""),
        error=headers.get(ERROR, ""),
        message=headers.get(MESSAGE, ""),
        traceback=_ESCAPE.sub(
            lambda found: "\n" if found[1] == "n" else found[1], headers.get(TRACEBACK, "")
        ),
        headers={name: value for name, value in headers.items() if not _is_own(name)},
        body=body,
        body_omitted=headers.get(BODY) == OMITTED,
        headers_omitted=headers.get(HEADERS) == OMITTED,
        repeated=repeated,
    )


def _shrunk(headers: Pairs, room: int, *, keep: str) -> Pairs | None:
    """Drop the traceback, then copied headers except `keep`, the largest first; None when the rest is still over `room`."""
    if _size(headers) <= room:
        return headers
    headers = [pair for pair in headers if pair[0] != TRACEBACK]
    if _size(headers) <= room:
        return headers
    copies: dict[str, int] = {}  # of a repeated header all are dropped: some left would look like all
    for name, value in headers:
        if not _is_own(name) and name.lower() != keep:
            copies[name.lower()] = copies.get(name.lower(), 0) + _size([(name, value)]) - _BLOCK
    headers = [*headers, (HEADERS, OMITTED)]
    over = _size(headers) - room
    dropped: set[str] = set()
    for name in sorted(copies, key=copies.__getitem__, reverse=True):
        if over <= 0:
            break
        dropped.add(name)
        over -= copies[name]
    return None if over > 0 else [pair for pair in headers if pair[0].lower() not in dropped]


def _is_own(name: str) -> bool:
    return name.lower().startswith("jetrunner-dead-")


def _size(headers: Pairs) -> int:
    return _BLOCK + sum(_length(name) + _length(value) + 4 for name, value in headers)


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _one_line(text: str) -> str:
    line = _CONTROL.sub(" ", text).strip()
    try:
        line.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # an exception's text may hold a lone surrogate, the wire may not
        return line.encode("utf-8", "replace").decode()
    return line


def _cut(text: str, longest: int) -> str:
    """Keep the beginning of a text, in at most `longest` bytes of UTF-8."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= longest:
        return text
    return raw[: max(0, longest - 3)].decode("utf-8", "ignore") + "…" if longest >= 3 else ""


def _tail(text: str, longest: int) -> str:
    """Keep the end of a text, in at most `longest` bytes of UTF-8."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= longest:
        return text
    return "…" + raw[3 - longest :].decode("utf-8", "ignore")
