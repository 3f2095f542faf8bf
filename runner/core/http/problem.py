"""Problem details (RFC 9457): the body that a client gets when a request fails. It has no internals: no traceback, no subject."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

MEDIA_TYPE = b"application/problem+json"

_MEMBERS = frozenset({"type", "title", "status", "detail", "instance"})


def problem(
    status: int, detail: str = "", *, request_id: str = "", more: Mapping[str, Any] | None = None
) -> bytes:
    """Write the body: `type` is `about:blank`, which means that the status says all; `more` adds members of its own."""
    found: dict[str, Any] = {"type": "about:blank", "title": title(status), "status": status}
    if detail:
        found["detail"] = detail
    if request_id:
        found["request_id"] = request_id
    found.update({key: value for key, value in (more or {}).items() if key not in _MEMBERS})
    return msgspec.json.encode(found)


def title(status: int) -> str:
    """The name of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error" if status >= 400 else "Response"
