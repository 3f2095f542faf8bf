"""`Idempotency-Key`: a request that is sent twice is stored once.

Rule 1: the `Nats-Msg-Id` is a digest of the route, the caller and the key: the same key of another caller, or on another path, is
        another message. The stream drops a second one within its `duplicate_window`, and the answer is the same 202.
Rule 2: a key is 1 to 255 visible ASCII characters, with or without the quotes that the draft asks for; the header occurs once.
Rule 3: the body is not part of the id. A client that sends another body with a used key gets the answer of the first.
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
    """The id of a request's message; None without a key. ValueError says in one sentence why a request is refused with 400."""
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
        digest.update(len(part).to_bytes(4) + part)  # lengths: no byte can be moved from one part to the next
    return f"http-{digest.hexdigest()[:40]}"
