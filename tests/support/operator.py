"""A nats-server in operator mode: its keys, and JWT credentials of a user that end when a test wants it."""

from __future__ import annotations

import base64
import json
import math
import os
import secrets
import time
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]

UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer", "max_ack_pending"), -1)


class Key:
    """A pair of keys that signs."""

    def __init__(self, prefix: int) -> None:
        self.seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), prefix)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public: str = self._pair.public_key.decode()

    def sign(self, subject: str, kind: str, name: str, facts: dict[str, Any], lasts: float = 0.0) -> str:
        """A JWT about `subject`; it `lasts` some seconds, or for ever."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "jti": secrets.token_hex(16),
            "iat": now,
            "iss": self.public,
            "sub": subject,
            "name": name,
            "nats": {"type": kind, "version": 2, **facts},
        }
        if lasts:
            claims["exp"] = math.ceil(time.time() + lasts)
        signed = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(claims)}"
        return f"{signed}.{_bare(self._pair.sign(signed.encode()))}"


class Operator:
    """One operator with one account; `config` makes a server its own."""

    def __init__(self) -> None:
        self._operator = Key(nkeys.PREFIX_BYTE_OPERATOR)
        self._system = Key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account = Key(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def config(self) -> str:
        """The part of a server's configuration."""
        operator, system, account = self._operator, self._system, self._account
        token = operator.sign(operator.public, "operator", "op", {"system_account": system.public})
        accounts = {
            system.public: operator.sign(system.public, "account", "SYS", {"limits": UNLIMITED}),
            account.public: self.account(),
        }
        preloaded = "\n".join(f"{public}: {text}" for public, text in accounts.items())
        return f"operator: {token}\nresolver: MEMORY\nresolver_preload {{\n{preloaded}\n}}"

    def account(self) -> str:
        """The JWT of the account that users are in."""
        limits = {**UNLIMITED, **JETSTREAM, "wildcards": True}
        return self._operator.sign(self._account.public, "account", "APP", {"limits": limits})

    def write_creds(self, file: Path, lasts: float = 0.0) -> str:
        """Write the credentials of a new user, in one step; its public key."""
        user = Key(nkeys.PREFIX_BYTE_USER)
        limits = dict.fromkeys(("subs", "data", "payload"), -1)
        token = self._account.sign(user.public, "user", "app", limits, lasts)
        fresh = file.with_suffix(".new")
        fresh.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        os.replace(fresh, file)  # noqa: PTH105
        return user.public


def _bare(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _part(document: dict[str, Any]) -> str:
    return _bare(json.dumps(document, separators=(",", ":")).encode())
