"""One request, as it came to this instance."""

from __future__ import annotations

from math import inf
from typing import Any

from msgspec import Struct

from runner.core import admission
from runner.core.service import DEADLINE
from runner.pipeline.message import is_msgpack

_DEADLINE = b"\r\n" + DEADLINE.lower().encode() + b":"


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
    lower = header.lower()
    request = Request(subject, reply, header, body, now)
    at = lower.find(_DEADLINE)
    if at >= 0:
        at += len(_DEADLINE)
        left = admission.left(header[at : header.find(b"\r\n", at)])
        if left is not None:
            request.expires = now + left
    if b"msgpack" in lower:
        request.msgpack = is_msgpack(header)
    return request
