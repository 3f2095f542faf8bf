"""Bearer tokens (JWT): each must be signed by one of the issuer's keys, be valid now, and be meant for us.

Rule 1: the algorithm must be allowed and fit the key: each key is used only with algorithms of its own kind.
Rule 2: a `kid` names the key. Without a `kid`, the only key of the algorithm is taken; if it has several, the token is refused.
Rule 3: `exp` must be there; `nbf`, `iat`, `iss` and `aud` must hold. A token with critical extensions (`crit`) is refused, because
        none is known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from runner.core.http.authsettings import JwtSettings, seconds
from runner.core.http.caller import Caller, Denied, bearer, single
from runner.errors import SettingsError, UsageError

LONGEST = 16_384
"""Longest token, in bytes."""
LEAST_BITS = 2_048
"""Least bits of an RSA key."""
TYPES = ("jwt", "at+jwt", "application/at+jwt")

_FITS: dict[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None), "RS384": ("RSA", None), "RS512": ("RSA", None),
    "PS256": ("RSA", None), "PS384": ("RSA", None), "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}  # fmt: skip
"""Kind and curve of the key that fits each algorithm."""


class Tokens:
    """Checks tokens of one issuer; `keys` is the text of its JWKS."""

    def __init__(self, auth: str, settings: JwtSettings, keys: str) -> None:
        """Raises SettingsError if a key is wrong; its text shows no key."""
        self.auth = auth
        self._settings = settings
        self._jwt = _jwt()
        self._keys = self._read(keys)
        self._leeway = seconds(settings.leeway, "leeway")
        audience = settings.audience
        self._audience = [audience] if isinstance(audience, str) else list(audience)

    def __repr__(self) -> str:
        return f"Tokens({self.auth!r}, {self._settings.issuer!r})"

    def check(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller | Denied:
        """The caller that a token names, or the refusal."""
        given = bearer(single(headers, b"authorization"))
        if given is None or len(given) > LONGEST:
            return Denied(401, "A bearer token is needed.", "Bearer")
        try:
            claims = self._claims(given.decode("ascii"))
        except self._jwt.ExpiredSignatureError:
            return _invalid("The token has expired.")
        except Exception:  # noqa: BLE001  whatever is wrong with a token, it is not valid
            return _invalid("The token is not valid here.")
        name = claims.get(self._settings.caller)
        if not isinstance(name, str) or not 0 < len(name) <= 256 or not name.isprintable():
            return _invalid("The token does not say who asks.")
        return Caller(self.auth, name, claims)

    def _claims(self, token: str) -> Mapping[str, Any]:
        header = self._jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm not in self._settings.algorithms or "crit" in header:
            raise ValueError
        if str(header.get("typ", "JWT")).lower() not in TYPES:
            raise ValueError
        found: Mapping[str, Any] = self._jwt.decode(
            token,
            self._key(algorithm, header.get("kid")),
            algorithms=[algorithm],
            issuer=self._settings.issuer,
            audience=self._audience or None,
            leeway=self._leeway,
            options={
                "require": ["exp"], "verify_aud": bool(self._audience),
            },
        )  # fmt: skip
        return found

    def _key(self, algorithm: str, kid: Any) -> Any:
        known = self._keys[algorithm]
        if kid is None and len(known) == 1:
            return next(iter(known.values()))
        return known[kid]

    def _read(self, text: str) -> dict[str, dict[str, Any]]:
        """The keys of each algorithm, by their ids."""
        try:
            listed = json.loads(text)["keys"]
            keys = [key for key in listed if key.get("use", "sig") == "sig"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._wrong('it is no JWKS: {"keys": […]} is expected') from None
        found: dict[str, dict[str, Any]] = {algorithm: {} for algorithm in self._settings.algorithms}
        for number, key in enumerate(keys):
            if "d" in key or key.get("kty") == "oct":
                raise self._wrong("it holds a key that is secret: public keys alone belong there")
            for algorithm, known in found.items():
                if (
                    key.get("alg", algorithm) != algorithm
                    or (key.get("kty"), _curve(key)) != _FITS[algorithm]
                ):
                    continue
                try:
                    read = self._jwt.PyJWK(key, algorithm)
                except Exception:  # noqa: BLE001  # fields of other types raise whatever they meet
                    raise self._wrong(f"key {number + 1} cannot be read") from None
                if getattr(read.key, "key_size", LEAST_BITS) < LEAST_BITS and key["kty"] == "RSA":
                    raise self._wrong(f"key {number + 1} has too few bits: {LEAST_BITS:,} are needed")
                known[str(key.get("kid", f"#{number}"))] = read
        if not any(found.values()):
            raise self._wrong(f"it holds no key for {', '.join(found)}")
        return found

    def _wrong(self, problem: str) -> SettingsError:
        return SettingsError(f"auth.{self.auth}: {self._settings.jwks_file}: {problem}")


def _curve(key: Mapping[str, Any]) -> Any:
    return None if key.get("kty") == "RSA" else key.get("crv")


def _invalid(detail: str) -> Denied:
    return Denied(401, detail, 'Bearer error="invalid_token"', wrong=True)


@cache
def _jwt() -> Any:
    """PyJWT, with the cryptography package that it needs; imported only when tokens are checked."""
    try:
        import cryptography  # noqa: F401, PLC0415  # both come with an extra
        import jwt  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "tokens need the packages PyJWT and cryptography", hint="pip install 'jetrunner[http]'"
        ) from None
    return jwt
