"""An operator, an account and users by JWT, as `nsc` makes them; the server takes them from its configuration."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]

UNLIMITED = {
    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1,
    "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
}  # fmt: skip
STORES = {"mem_storage", "disk_storage", "streams", "consumer"}


class Authority:
    """Signs what the server believes."""

    def __init__(self) -> None:
        self._operator = _key(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = _key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = _key(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def config(self) -> str:
        """Of the server."""
        name = self._account.public_key.decode()
        operator = _signed(self._operator, self._operator, "operator", {})
        account = _signed(self._operator, self._account, "account", {"limits": UNLIMITED})
        without = {field: limit for field, limit in UNLIMITED.items() if field not in STORES}
        system, its = (
            self._system.public_key.decode(),
            _signed(self._operator, self._system, "account", {"limits": without}),
        )
        return (
            f"operator: {operator}\nsystem_account: {system}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {name}: {account}, {system}: {its} }}\n"
        )

    def credentials(self, file: Path, claims: dict[str, Any]) -> Path:
        """The credentials file of a user with these claims."""
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        user = nkeys.from_seed(bytearray(seed))
        token = _signed(self._account, user, "user", {"subs": -1, "data": -1, "payload": -1, **claims})
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{bytes(seed).decode()}\n------END USER NKEY SEED------\n"
        )
        return file


def _key(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))


def _signed(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, kind: str, claims: dict[str, Any]) -> str:
    name = subject.public_key.decode()
    body: dict[str, Any] = {"iat": 1, "iss": issuer.public_key.decode(), "name": name, "sub": name}
    body["nats"] = {**claims, "type": kind, "version": 2}
    digest = hashlib.new("sha512_256", json.dumps(body).encode()).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    head = _text(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    signed = f"{head}.{_text(json.dumps(body).encode())}"
    return f"{signed}.{_text(issuer.sign(signed.encode()))}"


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
