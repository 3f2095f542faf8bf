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
"""As our own askers write it."""
SHORT = 12
"""Digits of a deadline that is read quickly."""


class Request(Struct, eq=False):
    """Everything stays bytes until someone asks."""

    subject: bytes
    """That of the function, whether all instances were asked or this one."""
    reply: bytes
    """Where the answer goes; empty where nobody waits for one."""
    header: bytes | None
    body: bytes
    arrived: float
    """By the monotonic clock, as all times here."""
    expires: float = inf
    """Until when its asker waits."""
    msgpack: bool = False
    started: float = 0.0
    """When its handler started; 0.0 before."""
    until: float = inf
    """Until when its handler may run."""
    late: bool = False
    """Its handler took too long."""
    answered: bool = False
    """Its asker has been answered already, though its handler may run on."""
    span: Any = None

    @property
    def text(self) -> str:
        """Its subject, as text."""
        return self.subject.decode("utf-8", "surrogateescape")


def read(subject: bytes, reply: bytes, header: bytes | None, body: bytes, now: float) -> Request:
    """A request that arrives now. Never raises: a deadline that is no number counts as none."""
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
    """Seconds that are left to an asker, as its headers tell in any way."""
    text = header_of.get(block, DEADLINE.encode())
    left = admission.left(text) if text is not None else None
    return inf if left is None else left
