"""One request, as it came to this instance."""

from __future__ import annotations

from math import inf
from typing import Any

from msgspec import Struct

from runner.core import admission
from runner.core import header as header_of
from runner.core.service import DEADLINE
from runner.pipeline.message import is_msgpack

_NAME = DEADLINE.lower().encode()
_USUAL = f"\r\n{DEADLINE}: ".encode()
"""The deadline header as our own askers write it."""
SHORT = 12
"""A deadline of at most so many digits is read quickly."""


class Request(Struct, eq=False):
    """One request. Its parts stay bytes until they are needed."""

    subject: bytes
    """The function's subject, also if only this instance was asked."""
    reply: bytes
    """The reply subject of the answer; empty if nobody waits for one."""
    header: bytes | None
    body: bytes
    arrived: float
    """When it arrived, by the monotonic clock, as all times here."""
    expires: float = inf
    """The asker waits until then."""
    msgpack: bool = False
    started: float = 0.0
    """When its handler started; 0.0 before."""
    until: float = inf
    """The handler may run until then."""
    late: bool = False
    """Whether the handler took too long."""
    answered: bool = False
    """Whether the asker has been answered, though the handler may still run."""
    span: Any = None

    @property
    def text(self) -> str:
        """The subject, as text."""
        return self.subject.decode("utf-8", "surrogateescape")


def read(subject: bytes, reply: bytes, header: bytes | None, body: bytes, now: float) -> Request:
    """Read a request that arrives now. Never raises: a deadline that is not a number counts as none."""
    if header is None:
        return Request(subject, reply, None, body, now)
    expires = inf
    at = header.find(_USUAL)
    if at >= 0:
        at += len(_USUAL)
        text = header[at : header.find(b"\r", at)]
        usual = text.isdigit() and len(text) <= SHORT
        expires = now + (int(text) / 1_000 if usual else _left(header))
        lower = header.lower()
    elif _NAME in (lower := header.lower()):
        expires = now + _left(header)
    msgpack = b"msgpack" in lower and is_msgpack(header)
    return Request(subject, reply, header, body, now, expires, msgpack)


def _left(block: bytes) -> float:
    """Seconds that are left to the asker, from its headers in any spelling."""
    text = header_of.get(block, DEADLINE.encode())
    left = admission.left(text) if text is not None else None
    return inf if left is None else left
