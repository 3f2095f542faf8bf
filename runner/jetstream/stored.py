"""One message as its stream holds it, read by its sequence from the stream's leader: a replica may not have it yet."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from runner.errors import ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Stored(Struct, frozen=True):
    """What was published."""

    header: bytes | None
    """The raw block; None without headers."""
    body: bytes
    stored_ns: int
    """When, in nanoseconds of Unix time."""
    subject: str = ""
    """Under which it is stored."""


async def read(connection: Connection, stream: str, sequence: int) -> Stored | None:
    """The message; None when the stream has let go of it. Raises `ServerError`, also where there is no stream."""
    try:
        message = (await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence}))["message"]
    except ServerError as error:
        if error.code in codes.NO_MESSAGE:
            return None
        raise
    block = base64.b64decode(message.get("hdrs") or "")
    body, stored = base64.b64decode(message.get("data") or ""), nanoseconds(message["time"])
    return Stored(block or None, body, stored, message["subject"])


def nanoseconds(time: str) -> int:
    """A time of the server's as nanoseconds of Unix time; Python's own reader stops at microseconds.

    The year 1 stands where nothing was stored yet: 0, as everything before 1970.
    """
    whole, _, fraction = time.removesuffix("Z").partition(".")
    try:
        seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC)
        since = (seconds - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "0").ljust(9, "0")[:9])
    except ValueError:
        return 0
    return max(0, since)
