"""API keys: only their SHA-256 is kept, and they are compared in a time that tells nothing about them."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from runner.core.http.caller import Caller, Denied, bearer, single

SHORTEST = 16
"""Fewest bytes of a key: SHA-256 does not protect a key that can be guessed."""
LONGEST = 512

_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,100}")
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")


class ApiKeys(Struct, frozen=True):
    """The keys of callers, and the header that carries a key."""

    auth: str
    """The authentication's name in the settings."""
    digests: Mapping[str, bytes]
    """The SHA-256 of each caller's key."""
    header: str = "x-api-key"
    """The header's name in lower case; in `authorization` the key follows `Bearer`."""

    def __repr__(self) -> str:
        return f"ApiKeys({self.auth!r}, {len(self.digests)} keys, {self.header!r})"

    def check(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller | Denied:
        """Find the caller by the key. All keys are compared, even after one fits, so that the time tells nothing."""
        given = single(headers, self.header.encode())
        if self.header == "authorization":
            given = bearer(given)
        if not given or len(given) > LONGEST:
            return self._denied("An API key is needed.")
        digest = hashlib.sha256(given).digest()
        found = ""
        for name, known in self.digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        if not found:
            return self._denied("The API key is not known.", wrong=True)
        return Caller(self.auth, found)

    def _denied(self, detail: str, *, wrong: bool = False) -> Denied:
        return Denied(401, detail, "Bearer" if self.header == "authorization" else "ApiKey", wrong)


def entry(name: str, text: str) -> tuple[str, bytes]:
    """Read a caller's key, or `sha256:` and its 64 digits; returns name and digest. ValueError shows no key."""
    if not _NAME.fullmatch(name):
        raise ValueError("the name of a caller holds letters, digits and _ . @ - only")
    if found := _HASH.fullmatch(text):
        return name, bytes.fromhex(found[1])
    if text.startswith("sha256:"):
        raise ValueError(f"the key of {name}: sha256: is followed by 64 hexadecimal digits")
    if (
        not SHORTEST <= len(text.encode()) <= LONGEST
        or not text.isascii()
        or not text.isprintable()
        or " " in text
    ):
        raise ValueError(f"the key of {name}: {SHORTEST} to {LONGEST} visible ASCII characters are expected")
    return name, hashlib.sha256(text.encode()).digest()


def entries(text: str) -> dict[str, bytes]:
    """Read callers and their keys: `name=key` in lines, or separated by commas; a line that begins with # is a comment."""
    found: dict[str, bytes] = {}
    for line in re.split(r"[\n,]", text):
        if not line.strip() or line.strip().startswith("#"):
            continue
        name, equals, key = line.partition("=")
        if not equals:
            raise ValueError("name=key is expected in each line")
        caller, digest = entry(name.strip(), key.strip())
        if caller in found:
            raise ValueError(f"{caller} stands twice")
        found[caller] = digest
    return found
