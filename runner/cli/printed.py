"""What is printed as data: JSON that any reader takes, and that does nothing to a terminal."""

from __future__ import annotations

import json
from typing import Any


def data(value: Any, *, indent: int | None = 2) -> str:
    """One JSON document. All but printable ASCII is escaped; bytes that were no UTF-8 become `?`, as readers demand."""
    return json.dumps(_readable(value), indent=indent).replace("\x7f", r"\u007f")


def _readable(value: Any) -> Any:
    """Half surrogate pairs, which came out of a header, would make the document unreadable."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_readable(key): _readable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(item) for item in value]
    return value
