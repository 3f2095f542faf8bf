"""Staged messages: checked and encoded when the handler publishes them, sent when it has succeeded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from numbers import Real
from typing import Any

from msgspec import Struct

from runner import codec
from runner.core import header
from runner.core.subject import is_reserved, problem, unfilled

_MSGPACK = "application/msgpack"
LATEST = datetime(2262, 4, 11, tzinfo=UTC)
"""The server counts nanoseconds in 64 bits: it would deliver a message for a later time at once (tried on 2.15)."""


class Staged(Struct, frozen=True, gc=False):
    """A message to be published when the handler succeeds."""

    subject: str
    body: bytes
    headers: dict[str, str] = {}
    at: datetime | None = None
    """When the message is to be delivered, with a timezone; None: at once."""


def stage(subject: str, body: Any, headers: Mapping[str, str] | None, at: datetime | None) -> Staged:
    """Encode and check a message; ValueError says why it cannot be sent."""
    if why := _refused(subject):
        raise ValueError(f"subject {subject!r}{why}")
    if at is not None and is_reserved(subject):
        raise ValueError(
            f"subject {subject!r} is the server's or Jetrunner's own: nothing is published there later"
        )
    if not headers:
        return Staged(subject, codec.encode(body), {}, at)
    kept = dict(headers)
    header.encode(kept.items())
    msgpack = any(name.lower() == "content-type" and value == _MSGPACK for name, value in kept.items())
    return Staged(subject, codec.encode(body, msgpack=msgpack), kept, at)


@lru_cache(maxsize=4_096)
def _refused(subject: str) -> str:
    """Why a subject cannot be published to; empty if it can. Kept, since many messages go to the same subject."""
    if why := problem(subject):
        return f": {why}"
    return " has a token that was not filled in: an f-string?" if unfilled(subject) else ""


def due(delay: float | None, at: datetime | None, now: Callable[[], float] = time.time) -> datetime | None:
    """When a message is to be delivered: in `delay` seconds, or at the time `at`, which has a timezone. None: at once.

    `now` tells the Unix time by the clock that decides on the delivery.
    """
    _require_types(delay, at)
    if delay is None:
        if at is not None and at.tzinfo is None:
            raise ValueError(f"at={at} has no timezone: write datetime.now(UTC)")
        if at is not None and at > LATEST:
            raise ValueError(f"at={at} is later than NATS can tell: {LATEST:%Y-%m-%d} is the last day")
        return at
    if at is not None:
        raise ValueError("give delay= or at=, not both")
    if not 0 <= delay < math.inf:
        raise ValueError(f"delay={delay} is not a number of seconds from 0 on")
    try:
        then = datetime.fromtimestamp(now(), UTC) + timedelta(seconds=delay)
    except OverflowError:
        then = datetime.max.replace(tzinfo=UTC)
    if then > LATEST:
        raise ValueError(f"delay={delay} is later than NATS can tell: {LATEST:%Y-%m-%d} is the last day")
    return then


def _require_types(delay: object, at: object) -> None:
    """Refuse values of other types: no type checker looks at most code that publishes."""
    if at is not None and not isinstance(at, datetime):
        raise TypeError(f"at= is a datetime with a timezone, not {at!r}")
    if delay is not None and (isinstance(delay, bool) or not isinstance(delay, Real)):
        raise TypeError(f"delay= is a number of seconds, not {delay!r}")


class _Done:
    """An awaitable that is done at once. The message is staged before, so a forgotten `await` loses no message."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


DONE = _Done()
"""What a handler awaits once its message is staged."""
