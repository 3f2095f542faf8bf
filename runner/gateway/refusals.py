"""Refusals as bytes: the answer after which a connection is closed."""

from __future__ import annotations

from functools import lru_cache

from runner.core.http.problem import MEDIA_TYPE, problem, title


@lru_cache(maxsize=256)
def refusal(status: int, detail: str) -> bytes:
    """The whole answer, with head and body."""
    body = problem(status, detail)
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        status,
        title(status).encode(),
        MEDIA_TYPE,
        len(body),
        body,
    )
