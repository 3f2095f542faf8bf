"""The runner's own writes that the server refuses: a permission is missing, a stream is full, or the bucket takes no such record.

Rule 1: a refusal is kept by the first tokens of its subject, until a write there succeeds, or was not tried for 20 s.
Rule 2: a user's own outputs do not count: their refusal is the handler's failure, or the output waits, and is reported there. In other
        streams than the bucket the size and the headers are those of a user's message: whoever stores it tells of them.
Rule 3: where a record is too large, a smaller one that is stored proves nothing.
"""

from __future__ import annotations

import re
import time

from msgspec import Struct

from runner.core.shown import line
from runner.errors import PermissionDenied, ServerError, StreamFull, TooLarge
from runner.jetstream import codes

DENIED = re.compile(r'permissions violation for publish to "([^"]+)"')
"""The server writes the subject in lower case."""
COUNTS_SECONDS = 20.0
TOKENS = 3
BUCKET = "KV_jetrunner"
PASSING = codes.BUSY | codes.UNDECIDED | {codes.WRONG_LAST_SEQUENCE}
"""Answers after which the same record is written again, or another instance was faster."""
SIZE = "size "
"""Before the subject of a record that is too large."""

_OWN = (
    ("$kv.jetrunner.", "the bucket KV_jetrunner", "$KV.jetrunner.>", "KV_jetrunner"),
    ("deadletters.", "the stream DEADLETTERS", "deadletters.>", "DEADLETTERS"),
    ("parked.", "the stream PARKED", "parked.>", "PARKED"),
    ("$jetrunner.again.", "the stream JETRUNNER", "$JETRUNNER.again.>", "JETRUNNER"),
    ("$jetrunner.delayed.", "the stream JETRUNNER", "$JETRUNNER.delayed.>", "JETRUNNER"),
    ("$jetrunner.due.", "the stream JETRUNNER", "$JETRUNNER.due.>", "JETRUNNER"),
    ("$js.api.direct.get.kv_jetrunner", "the bucket KV_jetrunner", "$JS.API.DIRECT.GET.KV_jetrunner.>", ""),
    ("$js.api.consumer.msg.next.", "pull requests", "$JS.API.CONSUMER.MSG.NEXT.>", ""),
    ("$js.ack.", "acknowledgements", "$JS.ACK.>", ""),
)


class Denial(Struct, frozen=True):
    """One kind of write that is refused."""

    what: str
    why: str
    remedy: str
    last: float
    """When it was last refused, by the monotonic clock."""

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; {self.remedy}"


class Denials:
    """The refused writes of one connection."""

    def __init__(self) -> None:
        self.found: dict[str, Denial] = {}

    def denied(self, subject: str) -> None:
        """Note that the credentials do not allow to publish to a subject."""
        if (own := _own(subject)) is not None:
            what, right, _ = own
            why = f"the credentials do not allow to publish to {line(right)}"
            self._note(subject, what, why, f"grant the user publish permission on {right}")

    def note(self, subject: str, error: ServerError) -> None:
        """Note an error that answers a publish to a subject."""
        if isinstance(error, PermissionDenied):
            self.denied(subject)
            return
        what, _, stream = _own(subject) or ("", "", "")
        if isinstance(error, StreamFull) and stream:
            remedy = (
                f"raise the limits of {stream} (max_bytes, max_msgs), or the storage of server and account"
            )
            self._note(subject, what, str(error), remedy)
        elif isinstance(error, TooLarge) and stream == BUCKET:
            self._note(f"{SIZE}{subject}", what, str(error), f"raise max_msg_size of {stream}")
        elif error.code and error.code not in PASSING and stream == BUCKET:
            self._note(subject, what, str(error), f"see its settings: nats stream info {stream}")

    def _note(self, subject: str, what: str, why: str, remedy: str) -> None:
        self.found[_group(subject)] = Denial(what, why, remedy, time.monotonic())

    def taken(self, subject: str) -> None:
        """Note that a publish to a subject was stored."""
        if self.found:
            self.found.pop(_group(subject), None)

    def now(self) -> dict[str, str]:
        """The refusals of now, each with a full sentence."""
        old = time.monotonic() - COUNTS_SECONDS
        self.found = {group: each for group, each in self.found.items() if each.last > old}
        return {each.what: str(each) for each in self.found.values()}


def _group(subject: str) -> str:
    return ".".join(subject.lower().split(".", TOKENS)[:TOKENS])


def _own(subject: str) -> tuple[str, str, str] | None:
    """What one of our own subjects belongs to, the permission for it, and its stream."""
    lower = subject.lower()
    return next((each[1:] for each in _OWN if lower.startswith(each[0])), None)
