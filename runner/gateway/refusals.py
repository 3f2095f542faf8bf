"""Refusals as bytes: what a connection is answered that is closed after it."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

import msgspec

PROBLEM = b"application/problem+json"


def problem(status: int, detail: str, **more: object) -> bytes:
    """The body of an answer that tells what is wrong, as RFC 9457 has it; `detail` is one sentence for the client."""
    return msgspec.json.encode({"title": phrase(status), "status": status, "detail": detail, **more})


def phrase(status: int) -> str:
    """`Not Found` of 404."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


@lru_cache(maxsize=256)
def refusal(status: int, detail: str) -> bytes:
    """The whole answer."""
    body = problem(status, detail)
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        status,
        phrase(status).encode(),
        PROBLEM,
        len(body),
        body,
    )
