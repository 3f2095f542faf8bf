"""Answers to requests that did not succeed: their code and text, and the headers that carry both.

Rule 1: the code tells who has to act: 4xx the asker, 5xx the service. The text is that of the handler's exception.
Rule 2: the text is one line of at most `LONGEST_ERROR` bytes, whatever an exception says, because a header carries it.
"""

from __future__ import annotations

from msgspec import Struct

from runner.core import raised, shown
from runner.core.service import (
    CODE,
    CODES,
    ERROR,
    FAILED,
    LATE,
    LONGEST_ERROR,
    NOT_STARTED,
    REJECTED,
    UNAVAILABLE,
    UNDECODABLE,
    NotStarted,
)
from runner.core.settlement import Failed, Outcome, Succeeded, TimedOut, Undecodable, only_member
from runner.core.signals import Reject, Retry
from runner.errors import NoResponders, ServiceError, Unconfirmed

OK, ACCEPTED, NO_CONTENT = 200, 202, 204
TIMEOUT = 504
"""The HTTP code for a function that took too long; a request over NATS is answered with 408."""
BAD_GATEWAY = 502
AGAIN_SECONDS = 1.0
_FAILED = "the function failed"
_OURS = frozenset({401, 407, 408, 411, 413, 414, 415, 417, 426, 431})
"""Codes that are about the connection between client and gateway."""


class Answered(Struct, frozen=True):
    """How a request was answered."""

    code: int = OK
    text: str = ""
    """Why it did not succeed."""
    after: float = 0.0
    """Seconds after which the asker may ask again; 0.0: not known."""

    @property
    def faulty(self) -> bool:
        """Whether the service is to blame, not the asker: it failed, was not there, or took too long."""
        return self.code >= FAILED or self.code == LATE


SUCCEEDED = Answered()

WORDS: dict[NotStarted, str] = {
    "overloaded": "too many requests wait here: ask another instance, or later",
    "draining": "this instance ends: ask another one",
    "expired": "the deadline passed before the handler began",
    "unknown": "no function of this instance answers on that subject",
}


def answered(outcome: Outcome) -> Answered:
    """Turn the outcome of a handler into the answer to its request."""
    match outcome:
        case Succeeded():
            return SUCCEEDED
        case Undecodable(error):
            return Answered(UNDECODABLE, raised.message(error))
        case TimedOut(seconds):
            return Answered(LATE, f"no result within {seconds:.3g} s")
        case Failed(error):
            only = only_member(error)
            if isinstance(only, Reject):
                return Answered(REJECTED, raised.message(only) or "rejected")
            if isinstance(only, Retry):
                return Answered(UNAVAILABLE, raised.message(only) or "try again later", only.after or 0.0)
            return Answered(FAILED, raised.line(only))
        case _:
            return Answered(FAILED, type(outcome).__name__.lower())


def responded(outcome: Outcome) -> Answered:
    """Do the same for an HTTP request: the text of an internal error is for the log, not for the client."""
    match outcome:
        case Undecodable(error):
            return Answered(getattr(error, "code", UNDECODABLE), raised.message(error))
        case TimedOut():
            return Answered(TIMEOUT, "the function took too long")
        case Failed(error) if (found := relayed(only_member(error))) is not None:
            # A body that the other function cannot decode was written here, not by the client.
            return found if found.code != UNDECODABLE else Answered(FAILED, _FAILED)
        case _:
            found = answered(outcome)
            return found if found.code != FAILED else Answered(FAILED, _FAILED)


def relayed(error: BaseException) -> Answered | None:
    """Turn the error of a request to another function into an answer for an HTTP client; None for errors of other kinds.

    The client gets the codes that say what is wrong with its request, but not those about the connection between gateway and function.
    """
    match error:
        case ServiceError(code=408):
            return Answered(TIMEOUT, "the function took too long")
        case ServiceError(code=429):
            return Answered(429, "too many requests wait; try again later", AGAIN_SECONDS)
        case ServiceError(code=503):
            return Answered(UNAVAILABLE, "the function is not there now", AGAIN_SECONDS)
        case ServiceError(code=code) if 400 <= code < 500 and code not in _OURS:
            return Answered(code, str(error))
        case ServiceError(code=code):
            return Answered(FAILED if code in (0, FAILED) else BAD_GATEWAY, _FAILED)
        case NoResponders():
            return Answered(UNAVAILABLE, "nobody answers here now", AGAIN_SECONDS)
        case Unconfirmed():
            return Answered(TIMEOUT, "no answer came in time")
        case _:
            return None


def one_line(text: str) -> str:
    """Make one line of a text for a header, cut to `LONGEST_ERROR` bytes."""
    line = shown.line(text).strip() or "failed"
    raw = line.encode("utf-8", "replace")
    if len(raw) <= LONGEST_ERROR:
        return raw.decode()
    return raw[: LONGEST_ERROR - 3].decode("utf-8", "ignore") + "…"


def headers(code: int, text: str, why: NotStarted | None = None) -> bytes:
    """Write the header block of an error's answer; `why`: why the handler has not begun."""
    block = f"NATS/1.0\r\n{ERROR}: {one_line(text)}\r\n{CODE}: {code}\r\n"
    if why is not None:
        block += f"{NOT_STARTED}: {why}\r\n"
    return (block + "\r\n").encode()


REFUSED: dict[NotStarted, bytes] = {why: headers(CODES[why], words, why) for why, words in WORDS.items()}
"""The header block of each answer to a request whose handler has not begun."""
