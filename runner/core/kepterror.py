"""The error of an attempt that will be retried, kept so that `runner message show` can show it: at most 4 KiB a message."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs

from runner.core import checked
from runner.core.checked import Count, OwnerName, UnixTime

LARGEST = 4_096
"""Most bytes of a record."""
_NAME, _MESSAGE, _WHERE, _TRACEBACK = 200, 800, 300, 2_000
"""Characters of each part, at most."""

Text = Annotated[str, Meta(max_length=LARGEST)]


class KeptError(Struct, frozen=True, omit_defaults=True):
    """The last failure of one message in one function."""

    stored: Count
    """When the message was stored, in nanoseconds of Unix time: another message may have had its number."""
    attempt: Count
    """The attempt that has failed; the first is 1."""
    attempts: Count
    """How many attempts the message has at most."""
    time: UnixTime
    """When it failed."""
    due: UnixTime
    """When the next attempt is due."""
    error: Text
    """The exception's type."""
    message: Text = ""
    where: Text = ""
    """File and line of the project's code."""
    traceback: Text = ""
    """The end of the traceback."""
    instance: OwnerName = ""
    trace_id: Text = ""


def encode(kept: KeptError) -> bytes:
    """Write a record; a text that is too long loses its end, a traceback its beginning, because its last lines say most."""
    kept = structs.replace(
        kept,
        error=_cut(kept.error, _NAME),
        message=_cut(kept.message, _MESSAGE),
        where=_cut(kept.where, _WHERE),
        traceback=_tail(kept.traceback, _TRACEBACK),
    )
    written = msgspec.json.encode(kept)
    while len(written) > LARGEST:  # characters of several bytes, or ones that JSON escapes
        kept = structs.replace(
            kept,
            message=_cut(kept.message, len(kept.message) // 2),
            traceback=_tail(kept.traceback, len(kept.traceback) // 2),
        )
        written = msgspec.json.encode(kept)
    return written


read = checked.json(KeptError)
"""Decode the stream's record; raises `Unfit`."""


def _cut(text: str, longest: int) -> str:
    text = _plain(text)
    return text if len(text) <= longest else text[: max(0, longest - 1)] + "…"


def _tail(text: str, longest: int) -> str:
    text = _plain(text)
    return text if len(text) <= longest else "…" + text[len(text) - max(0, longest - 1) :]


def _plain(text: str) -> str:
    """Replace the characters that JSON cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
