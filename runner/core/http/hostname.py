"""Hosts of requests, in one form; and the wildcards of routes."""

from __future__ import annotations

import re
from functools import lru_cache

LONGEST = 253
"""Characters of a name in DNS: how many labels are looked up follows from it."""

_HOST = re.compile(r"((?:[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*)?\.?|\[[0-9a-f:.]+\])(?::[0-9]{0,5})?")
_DECLARED = re.compile(r"(?:\*\.)?[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]+\]")


@lru_cache(maxsize=1_024)  # a server has few names, and is asked by them all the time
def normal(host: str) -> str:
    """A `Host` in lower case, without port and without a dot at its end; ValueError when it is none.

    It may be empty: a client that has no name for the server sends an empty one.
    """
    found = _HOST.fullmatch(host.lower())
    if found is None or len(found[1]) > LONGEST + 1:
        raise ValueError("the host is not a name and a port")
    return found[1].removesuffix(".")


def declared(host: str) -> str:
    """The host of a route, as `example.com` or `*.example.com`; ValueError when it is none."""
    name = host.lower()
    if not _DECLARED.fullmatch(name) or len(name) > LONGEST:
        raise ValueError(f"host {host!r} is not a name as example.com, or *.example.com")
    return name
