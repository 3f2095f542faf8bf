"""Authentications as a project declares them, `[tool.jetrunner.auth.<name>]`. The settings hold no secret, only its place.

```toml
[tool.jetrunner.auth.partners]
kind = "api_key"
keys_env = "PARTNER_KEYS"              # acme=…,beta=…; or keys_file, or keys = { acme = "sha256:…" }

[tool.jetrunner.auth.staff]
kind = "jwt"
jwks_file = "jwks.json"
issuer = "https://login.example.com/"
audience = "orders"

[tool.jetrunner.auth.github]
kind = "webhook"
style = "github"
secret_env = "GITHUB_SECRET"           # or secret_file
```
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct, structs

from runner.core import quantity
from runner.core.http import manifest
from runner.core.http.manifest import Fault
from runner.core.http.webhook import Style

Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Only algorithms with a key pair: a secret that both sides know does not belong into a JWKS, and `none` is not a signature."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


class ApiKeySettings(
    Struct, frozen=True, kw_only=True, tag_field="kind", tag="api_key", forbid_unknown_fields=True
):
    """An authentication by the keys of callers."""

    keys: Mapping[str, str] = {}
    """The SHA-256 of each caller's key, as `sha256:…`."""
    keys_env: str | None = None
    """The environment variable that holds the keys, as `name=key,name=key`."""
    keys_file: str | None = None
    """The file that holds the keys, `name=key` in each line; read again when it changes."""
    header: str = "x-api-key"
    forward: bool = False
    """Whether the key is passed on to the function that answers, and into streams."""


class JwtSettings(Struct, frozen=True, kw_only=True, tag_field="kind", tag="jwt", forbid_unknown_fields=True):
    """An authentication by the tokens of an issuer."""

    jwks_file: str
    """The file with the issuer's public keys; read again when it changes."""
    issuer: str
    audience: str | tuple[str, ...]
    """The audience that a token must have; `[]` accepts tokens with any."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
    leeway: str | float = 30.0
    """Seconds by which the clocks may differ."""
    caller: str = "sub"
    """The claim that names the caller."""
    forward: bool = False
    """Whether the token is passed on to the function that answers, and into streams."""


class WebhookSettings(
    Struct, frozen=True, kw_only=True, tag_field="kind", tag="webhook", forbid_unknown_fields=True
):
    """An authentication by the signature of the body."""

    style: Style
    secret_env: str | None = None
    """The environment variable that holds the secret; while it is changed: several secrets, one a line."""
    secret_file: str | None = None
    """The file that holds the secret; read again when it changes."""
    tolerance: str | float = 300.0
    """Seconds by which a signed time may be off."""
    header: str = "x-signature"
    prefix: str = ""
    encoding: Literal["hex", "base64"] = "hex"
    timestamp_header: str | None = None


AuthSettings: TypeAlias = ApiKeySettings | JwtSettings | WebhookSettings

_FILES = ("keys_file", "jwks_file", "secret_file")
_OWN_OF_GENERIC = ("header", "prefix", "encoding", "timestamp_header")


KEYS = tuple(
    dict.fromkeys(
        field for kind in (ApiKeySettings, JwtSettings, WebhookSettings) for field in kind.__struct_fields__
    )
)


def read(tables: Mapping[str, Any], path: Callable[[str], str]) -> dict[str, AuthSettings]:
    """Read the tables, by name; `path` is applied to names of files. `Fault` says what is wrong, and in which table.

    `Fault` quotes no value, because a value may be a secret in the wrong place.
    """
    found: dict[str, AuthSettings] = {}
    for name, table in tables.items():
        try:
            found[name] = _read(name, table, path)
        except Fault as error:
            raise Fault(f"auth.{name}: {error}") from None
    return found


def _read(name: str, table: Any, path: Callable[[str], str]) -> AuthSettings:
    if not _NAME.fullmatch(name):
        raise Fault("a name holds letters, digits, _ and - only")
    settings: AuthSettings = manifest.convert(table, AuthSettings)  # type: ignore[arg-type]
    _check(settings)
    files = {field: path(value) for field in _FILES if (value := getattr(settings, field, None))}
    return structs.replace(settings, **files)


def _check(settings: AuthSettings) -> None:
    match settings:
        case ApiKeySettings():
            _one_of(settings, "keys", "keys_env", "keys_file")
            _header(settings.header, "header")
            if wrong := [name for name, key in settings.keys.items() if not key.startswith("sha256:")]:
                raise Fault(
                    f"the key of {wrong[0]!r} would stand here for all to read: write its digest, sha256:…",
                    ("keys",),
                )
        case JwtSettings():
            if not settings.algorithms:
                raise Fault("name one or several", ("algorithms",))
            if not settings.issuer:
                raise Fault("name who issues the tokens", ("issuer",))
            seconds(settings.leeway, "leeway")
        case WebhookSettings():
            _one_of(settings, "secret_env", "secret_file")
            _header(settings.header, "header")
            _header(settings.timestamp_header or "x", "timestamp_header")
            seconds(settings.tolerance, "tolerance")
            plain = WebhookSettings(style="generic")
            given = [each for each in _OWN_OF_GENERIC if getattr(settings, each) != getattr(plain, each)]
            if settings.style != "generic" and given:
                raise Fault(
                    f'it is of style = "generic"; {settings.style} says itself where things stand',
                    (given[0],),
                )


def seconds(given: str | float, field: str) -> float:
    """Read a duration in seconds; `Fault` names the field that has none."""
    try:
        return quantity.seconds(given)
    except ValueError as error:
        raise Fault(str(error), (field,)) from None


def _one_of(settings: Struct, *fields: str) -> None:
    given = [field for field in fields if getattr(settings, field)]
    if len(given) != 1:
        raise Fault(f"it has one of {', '.join(fields)}, and no other")


def _header(name: str, field: str) -> None:
    if not _HEADER.fullmatch(name):
        raise Fault(f"{name!r} is not the name of a header", (field,))
