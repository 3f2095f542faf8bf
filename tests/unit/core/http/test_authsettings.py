"""Authentications as a project declares them: where secrets are, never the secrets."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.http import authsettings
from runner.core.http.authsettings import ApiKeySettings, JwtSettings, WebhookSettings
from runner.core.http.manifest import Fault

DIGEST = "sha256:" + "0a" * 32
KEYS = {"kind": "api_key", "keys": {"acme": DIGEST}}
JWT = {"kind": "jwt", "jwks_file": "jwks.json", "issuer": "https://login", "audience": "orders"}
HOOK = {"kind": "webhook", "style": "generic", "secret_env": "HOOK"}


def read(**tables: Any) -> dict[str, authsettings.AuthSettings]:
    return authsettings.read(tables, lambda name: f"/project/{name}")


def test_each_kind_is_read_and_files_start_from_the_project() -> None:
    found = read(
        keys=KEYS, staff=JWT, hook={**HOOK, "tolerance": "1m"}, file={"kind": "api_key", "keys_file": "k"}
    )
    assert found["keys"] == ApiKeySettings(keys={"acme": DIGEST})
    assert found["staff"] == JwtSettings(
        jwks_file="/project/jwks.json", issuer="https://login", audience="orders"
    )
    assert found["hook"] == WebhookSettings(style="generic", secret_env="HOOK", tolerance="1m")
    assert found["file"] == ApiKeySettings(keys_file="/project/k")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "auth.a: missing required field kind"),
        ({"kind": "basic"}, "auth.a: kind: invalid value 'basic'"),
        ({"kind": "api_key"}, "it has one of keys, keys_env, keys_file, and no other"),
        ({**KEYS, "keys_env": "X"}, "it has one of keys"),
        ({**KEYS, "header": "a b"}, "header: 'a b' is not the name of a header"),
        ({**KEYS, "keys": {"acme": "k-secret-7f3a9c0d51"}}, "auth.a: keys: the key of 'acme' would stand here for all to read"),
        ({**JWT, "audience": None}, "missing required field audience"),
        ({**JWT, "issuer": ""}, "issuer: name who issues"),
        ({**JWT, "algorithms": []}, "algorithms: name one"),
        ({**JWT, "algorithms": ["HS256"]}, r"algorithms\[0\]: invalid enum value 'HS256'"),
        ({**JWT, "algorithms": ["none"]}, r"algorithms\[0\]: invalid enum value 'none'"),
        ({**JWT, "leeway": "soon"}, "leeway: 'soon' is not a duration"),
        ({**HOOK, "secret_file": "f"}, "it has one of secret_env, secret_file"),
        ({**HOOK, "secret": "s-secret-7f3a9c0d51"}, "auth.a: contains unknown field secret"),
        ({**HOOK, "style": "github", "prefix": "x"}, "prefix: it is of style"),
        ({**HOOK, "timestamp_header": "a b"}, "timestamp_header: 'a b'"),
    ],
)  # fmt: skip
def test_what_is_none_is_told_by_name_and_no_secret_is_repeated(given: dict[str, Any], why: str) -> None:
    with pytest.raises(Fault, match=why) as raised:
        read(a=given)
    assert "7f3a9c0d51" not in str(raised.value)


def test_a_name_is_a_word() -> None:
    with pytest.raises(Fault, match=r"auth.a b: a name holds"):
        read(**{"a b": KEYS})
