"""Makes the JSON that commands print: any reader accepts it, and no character of it acts on a terminal."""

from __future__ import annotations

import json
from typing import Any


def data(value: Any, *, indent: int | None = 2) -> str:
    """One JSON document. All but printable ASCII is escaped; bytes that were not UTF-8 become `?`, because readers refuse them."""
    return json.dumps(_readable(value), indent=indent).replace("\x7f", r"\u007f")


def _readable(value: Any) -> Any:
    """The value with `?` in place of half surrogate pairs, which a header may bring: with them no reader would accept the document."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_readable(key): _readable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(item) for item in value]
    return value
