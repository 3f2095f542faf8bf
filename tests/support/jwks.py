"""Issuers of tokens: key pairs, their JWKS, and what they sign."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://login.example.com/"
AUDIENCE = "orders"


@cache
def private(name: str) -> Any:
    """A key pair by the name of its algorithm; what follows a dash tells two of one algorithm apart."""
    match name.partition("-")[0]:
        case "RS256" | "PS256":
            return rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        case "weak":
            return rsa.generate_private_key(public_exponent=65_537, key_size=1024)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def jwk(name: str, **more: Any) -> dict[str, Any]:
    """The public key of a pair, with its name as its id."""
    key = private(name).public_key()
    kinds: dict[str, Any] = {
        "RS": RSAAlgorithm,
        "PS": RSAAlgorithm,
        "we": RSAAlgorithm,
        "ES": ECAlgorithm,
        "Ed": OKPAlgorithm,
    }
    found: dict[str, Any] = json.loads(kinds[name[:2]].to_jwk(key))
    found.pop("key_ops", None)
    return {**found, "kid": name, "use": "sig", **more}


def jwks(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": list(keys)})


def token(name: str, claims: dict[str, Any], **header: Any) -> str:
    """Claims, signed by a pair; a header of None is left away."""
    headers = {"kid": name, **header}
    algorithm = name.partition("-")[0].replace("weak", "RS256")
    return jwt.encode(
        claims, private(name), algorithm, headers={key: value for key, value in headers.items() if value is not None}
    )  # fmt: skip


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
