"""`Idempotency-Key`: a request that is sent again is stored once.

Rule 1: the `Nats-Msg-Id` is a digest of the route, of who asks, and of the key: the same key of another caller, or on another
        path, is another message. The stream drops a second one within its `duplicate_window`, and the answer is the same 202.
Rule 2: a key is 1 to 255 visible ASCII characters, with or without the quotes that the draft asks for; it stands once.
Rule 3: the body is no part of it. Who sends another body under a key that was used gets the answer of the first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

HEADER = b"idempotency-key"

_KEY = re.compile(rb'"([!#-\[\]-~]{1,255})"|([!#-~]{1,255})')


def message_id(
    headers: Sequence[tuple[bytes, bytes]],
    rule: Literal["off", "optional", "required"],
    *,
    route: str,
    caller: str,
) -> str | None:
    """The message's id; None where there is no key. ValueError says in one sentence why a request is refused with 400."""
    if rule == "off":
        return None
    values = [value.strip() for name, value in headers if name == HEADER]
    if not values:
        if rule == "required":
            raise ValueError("This path needs an Idempotency-Key.")
        return None
    found = _KEY.fullmatch(values[0])
    if len(values) > 1 or found is None:
        raise ValueError("The Idempotency-Key is not one text of 1 to 255 visible characters.")
    digest = hashlib.sha256()
    for part in (route.encode(), caller.encode(), found[1] or found[2]):
        digest.update(len(part).to_bytes(4) + part)  # no border can be moved from one part to the next
    return f"http-{digest.hexdigest()[:40]}"
