"""Answers on their way to a client: status, headers and body, compressed where that pays."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from runner.core.answered import ACCEPTED, NO_CONTENT, OK, Answered
from runner.core.http import rewriting
from runner.core.http.carried import Pairs
from runner.core.http.filters import Filter
from runner.core.http.problem import MEDIA_TYPE, problem
from runner.core.http.routetable import Unmatched
from runner.core.redaction import MSGPACK
from runner.gateway.events import Events
from runner.gateway.httprequest import StoredOutput
from runner.host import Reply
from runner.responses import BYTES, EVENTS, JSON, TEXT, Rendered

LEAST_COMPRESSED, MOST_COMPRESSED = 1_024, 256 * 1_024
"""Only bodies with so many bytes are compressed: a smaller one gains nothing, a larger one would hold up the loop for over 2 ms."""
LEVEL = 1
_COMPRESSIBLE = (b"application/json", b"text/plain", b"text/html", b"text/csv", b"application/problem+json")
LONGEST_LOOKED_AT = 4_096

_encode = msgspec.json.Encoder().encode
_is_json = msgspec.json.Decoder(msgspec.Raw).decode


class Answer(Struct):
    """One answer to a client."""

    status: int
    body: bytes = b""
    kind: bytes = b""
    """The content type; empty without a body."""
    headers: list[tuple[bytes, bytes]] = []
    events: Events | None = None
    """The events that are sent in place of a body."""
    why: str = ""
    """What went wrong here, for the log and the trace."""


def told_once(answer: Answer, more: Pairs) -> None:
    """Replace headers by those of the same names in `more`, and add the others; a `vary` is always added."""
    names = {name for name, _ in more} - {b"vary"}
    answer.headers = [*(pair for pair in answer.headers if pair[0] not in names), *more]


def filtered(answer: Answer, identity: bytes, filters: Iterable[Filter]) -> None:
    """Let filters change all headers, including the content type and the request's id."""
    own = [(b"x-request-id", identity), *([(b"content-type", answer.kind)] if answer.kind else [])]
    told_once(answer, own)
    found = rewriting.changed(answer.headers, filters, "response")
    answer.kind = next((value for name, value in reversed(found) if name == b"content-type"), b"")
    answer.headers = [pair for pair in found if pair[0] != b"content-type"]


def trouble(
    status: int, detail: str, *, after: float = 0.0, headers: list[tuple[bytes, bytes]] | None = None
) -> Answer:
    """An error answer; the client may ask again after `after` seconds."""
    found = list(headers or ())
    if after > 0:
        found.append((b"retry-after", b"%d" % max(1, round(after))))
    return Answer(status, problem(status, detail), MEDIA_TYPE, found, why=detail)


def unmatched(found: Unmatched, method: str) -> Answer:
    """The answer to a request that no route takes."""
    allow = [(b"allow", ", ".join((*found.allow, "OPTIONS")).encode())] if found.allow else []
    if found.status == 405 and method == "OPTIONS":
        return Answer(204, headers=allow)
    return trouble(found.status, found.detail, headers=allow)


def of_function(outcome: Rendered | StoredOutput | Events | Answered) -> Answer:
    """The answer from the outcome of a function in this process."""
    if type(outcome) is Rendered:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in outcome.headers]
        return Answer(outcome.status, outcome.body, outcome.kind.encode("latin-1"), headers)
    if isinstance(outcome, Events):
        return Answer(OK, b"", EVENTS.encode(), [(b"cache-control", b"no-store")], events=outcome)
    if isinstance(outcome, StoredOutput):
        return stored(outcome.stream, outcome.sequence, duplicate=outcome.duplicate)
    assert isinstance(outcome, Answered)
    return trouble(outcome.code, outcome.text, after=outcome.after)


def stored(stream: str, sequence: int, *, duplicate: bool) -> Answer:
    """The answer once a stream has stored the message."""
    told: dict[str, object] = {"stream": stream}
    if sequence:
        told |= {"sequence": sequence, "message_id": f"{stream}:{sequence}"}
    if duplicate:
        told["duplicate"] = True
    return Answer(ACCEPTED, _encode(told), JSON.encode())


def of_reply(reply: Reply, kind: bytes | None) -> Answer:
    """The answer from a function's reply over NATS; `kind` is its content type, if it named one."""
    if not reply.body:
        return Answer(NO_CONTENT)
    if kind is None:
        kind = (MSGPACK if reply.msgpack else _guessed(reply.body)).encode()
    return Answer(OK, reply.body, kind)


def _guessed(body: bytes) -> str:
    """The content type of a body without one: functions answer JSON, except for `str` and `bytes`."""
    if body[0] in b'{["':
        return JSON
    if len(body) <= LONGEST_LOOKED_AT:
        try:
            _is_json(body)
        except msgspec.DecodeError:
            pass
        else:
            return JSON
    try:
        body.decode()
    except UnicodeDecodeError:
        return BYTES
    return TEXT


def compress(answer: Answer, accepted: bytes | None) -> None:
    """Compress the body if the client accepts that, and its type and size gain by it."""
    if not LEAST_COMPRESSED <= len(answer.body) <= MOST_COMPRESSED:
        return
    if not answer.kind.startswith(_COMPRESSIBLE) or any(
        name in (b"content-encoding", b"set-cookie", b"etag") for name, _ in answer.headers
    ):
        return
    answer.headers.append((b"vary", b"accept-encoding"))
    if accepted is None or not _takes_gzip(accepted):
        return
    packing = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    answer.body = packing.compress(answer.body) + packing.flush()
    answer.headers.append((b"content-encoding", b"gzip"))


def _takes_gzip(accepted: bytes) -> bool:
    for each in accepted.lower().split(b","):
        name, _, quality = each.partition(b";")
        if name.strip() == b"gzip":
            return quality.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False
