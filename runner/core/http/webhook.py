"""Webhooks: a signature over the body as it came, byte for byte, by a secret that both sides know.

| style | header | what is signed |
|---|---|---|
| `github` | `X-Hub-Signature-256: sha256=<hex>` | the body |
| `stripe` | `Stripe-Signature: t=<time>,v1=<hex>` | `<time>.<body>` |
| `standard` | `Webhook-Signature: v1,<base64>`, with `Webhook-Id` and `Webhook-Timestamp` | `<id>.<time>.<body>` |
| `generic` | `X-Signature: <hex>`, or as the settings say | the body, or `<time>.<body>` |

All are HMAC-SHA256. Where a time is signed, a request that is older or younger than the tolerance is refused; within it, and
where none is signed, one that was overheard may be sent again: what must not happen twice needs an id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.http.caller import Caller, Denied, single

Style: TypeAlias = Literal["github", "stripe", "standard", "generic"]

MOST = 8
"""Signatures that are looked at in one header: two while a secret is changed, and some of other versions."""

_TIME = re.compile(rb"[0-9]{1,12}")
_NEEDED = "A signature is needed."
_WRONG = Denied(403, "The signature does not fit the body.", wrong=True)
_STALE = Denied(403, "The signature is too old, or of a time to come.", wrong=True)


class _Signed(Struct, frozen=True):
    """What a request says it has signed."""

    signatures: Sequence[bytes]
    before: bytes = b""
    """What stands before the body in what is signed."""
    time: bytes | None = None


class Webhook(Struct, frozen=True, kw_only=True):
    """Whose signatures are taken."""

    auth: str
    """Its name in the settings."""
    style: Style
    secrets: Sequence[bytes]
    """More than one while a secret is changed."""
    tolerance: float = 300.0
    """Seconds that a signed time may be off."""
    header: str = "x-signature"
    """Of `generic`: where the signature stands, in lower case."""
    prefix: str = ""
    """Of `generic`: what stands before it, as `sha256=`."""
    encoding: Literal["hex", "base64"] = "hex"
    """Of `generic`."""
    timestamp_header: str | None = None
    """Of `generic`: where seconds since 1970 stand, which are signed too."""

    def __repr__(self) -> str:
        return f"Webhook({self.auth!r}, {self.style!r})"

    def check(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, now: float) -> Caller | Denied:
        """Whether the body is signed; `now` is in seconds since 1970."""
        signed = _READ[self.style](self, headers)
        if signed is None or not signed.signatures:
            return Denied(401, _NEEDED, "Signature")
        good = False
        for secret in self.secrets:
            expected = hmac.digest(secret, signed.before + body, hashlib.sha256)
            for given in signed.signatures[:MOST]:
                good |= hmac.compare_digest(given, expected)
        if not good:
            return _WRONG
        if signed.time is not None and abs(now - int(signed.time)) > self.tolerance:
            return _STALE
        return Caller(self.auth, self.auth)


def secret(text: str, style: Style) -> bytes:
    """A secret as it is used: of `standard` what follows `whsec_` is base64. ValueError shows nothing of it."""
    if style == "standard" and text.startswith("whsec_"):
        try:
            found = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise ValueError("what follows whsec_ is base64") from None
    else:
        found = text.encode()
    if len(found) < 16:
        raise ValueError("a secret has 16 bytes or more")
    return found


def _github(hook: Webhook, headers: Sequence[tuple[bytes, bytes]]) -> _Signed | None:
    given = single(headers, b"x-hub-signature-256")
    if given is None or not given.startswith(b"sha256="):
        return None
    return _Signed(_decoded([given.removeprefix(b"sha256=")], "hex"))


def _stripe(hook: Webhook, headers: Sequence[tuple[bytes, bytes]]) -> _Signed | None:
    pairs = [part.partition(b"=") for part in (single(headers, b"stripe-signature") or b"").split(b",")]
    times = [value for key, _, value in pairs if key.strip() == b"t"]
    if len(times) != 1 or not _TIME.fullmatch(times[0]):
        return None
    signatures = _decoded([value for key, _, value in pairs if key.strip() == b"v1"], "hex")
    return _Signed(signatures, times[0] + b".", times[0])


def _standard(hook: Webhook, headers: Sequence[tuple[bytes, bytes]]) -> _Signed | None:
    identity = single(headers, b"webhook-id")
    time = single(headers, b"webhook-timestamp")
    if not identity or time is None or not _TIME.fullmatch(time):
        return None
    given = (single(headers, b"webhook-signature") or b"").split(b" ")
    signatures = [each.removeprefix(b"v1,") for each in given if each.startswith(b"v1,")]
    return _Signed(_decoded(signatures, "base64"), identity + b"." + time + b".", time)


def _generic(hook: Webhook, headers: Sequence[tuple[bytes, bytes]]) -> _Signed | None:
    given = single(headers, hook.header.encode())
    if given is None or not given.startswith(hook.prefix.encode()):
        return None
    signatures = _decoded([given.removeprefix(hook.prefix.encode())], hook.encoding)
    if hook.timestamp_header is None:
        return _Signed(signatures)
    time = single(headers, hook.timestamp_header.encode())
    if time is None or not _TIME.fullmatch(time):
        return None
    return _Signed(signatures, time + b".", time)


_READ = {"github": _github, "stripe": _stripe, "standard": _standard, "generic": _generic}


def _decoded(texts: Sequence[bytes], encoding: Literal["hex", "base64"]) -> list[bytes]:
    """Those that are whole SHA-256 digests."""
    found: list[bytes] = []
    for text in texts[:MOST]:
        try:
            digest = (
                base64.b64decode(text, validate=True) if encoding == "base64" else binascii.unhexlify(text)
            )
        except (binascii.Error, ValueError):
            continue
        if len(digest) == hashlib.sha256().digest_size:
            found.append(digest)
    return found
