"""Ids of requests: the client's own if it is well-formed, so that its logs and ours have the same; else a new one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from runner.core.http.caller import single

HEADER = b"x-request-id"

_OWN = re.compile(rb"[A-Za-z0-9._:-]{8,128}")


def request_id(headers: Sequence[tuple[bytes, bytes]], luck: Callable[[int], int]) -> str:
    """The id of a request; `luck(n)` gives n random bits, as `random.getrandbits` does."""
    given = single(headers, HEADER)
    if given is not None and _OWN.fullmatch(given):
        return given.decode("ascii")
    return f"{luck(128):032x}"
