"""Hosts of requests and of routes, in canonical form."""

from __future__ import annotations

import re
from functools import lru_cache

LONGEST = 253
"""Most characters of a name in DNS; they also limit how many labels are looked up."""

_HOST = re.compile(r"((?:[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*)?\.?|\[[0-9a-f:.]+\])(?::[0-9]{0,5})?")
_DECLARED = re.compile(r"(?:\*\.)?[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]+\]")


@lru_cache(maxsize=1_024)  # a server has few names, and the same ones come all the time
def normal(host: str) -> str:
    """Give a `Host` in lower case, without its port and without a dot at the end; ValueError when it is malformed.

    The host may be empty: a client that has no name for the server sends an empty one.
    """
    found = _HOST.fullmatch(host.lower())
    if found is None or len(found[1]) > LONGEST + 1:
        raise ValueError("the host is not a name and a port")
    return found[1].removesuffix(".")


def declared(host: str) -> str:
    """Give the host of a route, such as `example.com` or `*.example.com`, in lower case; ValueError when it is malformed."""
    name = host.lower()
    if not _DECLARED.fullmatch(name) or len(name) > LONGEST:
        raise ValueError(f"host {host!r} is not a name as example.com, or *.example.com")
    return name
