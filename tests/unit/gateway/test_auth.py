"""Who may ask: secrets from where the settings say, several ways for one route, files that change."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from pathlib import Path

import pytest

from runner.core.http.authsettings import ApiKeySettings, AuthSettings, JwtSettings, WebhookSettings
from runner.core.http.caller import Caller, Denied
from runner.errors import SettingsError
from runner.gateway.auth import Authentications
from tests.support.jwks import AUDIENCE, ISSUER, jwk, jwks, token

KEY, SECRET = "k-7f3a9c0d51e24b68", "s-7f3a9c0d51e24b68"
BODY = b"{}"
ENVIRON = {"KEYS": f"acme={KEY}", "SECRET": f"{SECRET}\n"}
SIGNED = [
    (
        b"x-hub-signature-256",
        b"sha256=" + hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest().encode(),
    )
]
KEYED = [(b"x-api-key", KEY.encode())]


def made(tmp_path: Path, **more: AuthSettings) -> Authentications:
    (tmp_path / "jwks.json").write_text(jwks(jwk("ES256")))
    settings: dict[str, AuthSettings] = {
        "partners": ApiKeySettings(keys_env="KEYS"),
        "github": WebhookSettings(style="github", secret_env="SECRET"),
        "staff": JwtSettings(jwks_file=str(tmp_path / "jwks.json"), issuer=ISSUER, audience=AUDIENCE),
        **more,
    }
    return Authentications(settings, ENVIRON)


def test_one_of_several_ways_is_enough(tmp_path: Path) -> None:
    found = made(tmp_path)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": time.time() + 60}
    bearer = [(b"authorization", f"Bearer {token('ES256', claims)}".encode())]
    asked = [found.check(("staff", "partners"), headers, None, 0.0) for headers in (KEYED, bearer, [])]
    assert [each.name if isinstance(each, Caller) else each for each in asked] == [
        "acme", "ada", Denied(401, "This path asks who you are.", "Bearer, ApiKey"),
    ]  # fmt: skip


def test_a_key_goes_no_further_unless_the_settings_say_so(tmp_path: Path) -> None:
    names = ("partners", "staff", "github")
    found = made(tmp_path)
    assert found.spent(("partners",), "partners") == {b"x-api-key"}
    assert found.spent(names, "partners") == found.spent(names, "staff") == {b"x-api-key", b"authorization"}
    assert found.spent(("github",), "github") == frozenset()
    found = made(tmp_path, partners=ApiKeySettings(keys_env="KEYS", forward=True))
    assert found.spent(("partners",), "partners") == frozenset()
    assert found.spent(names, "partners") == {b"authorization"}


def test_a_signature_is_looked_at_once_the_body_is_there(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert found.check(("github",), SIGNED, None, 0.0) is None
    assert found.check(("github",), SIGNED, BODY, 0.0) == Caller("github", "github")
    assert found.check(("github",), SIGNED, b"", 0.0) == Denied(
        403, "The signature does not fit the body.", wrong=True
    )
    assert isinstance(found.check(("github",), [], BODY, 0.0), Denied)


def test_beside_a_signature_a_key_decides_before_the_body(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert found.check(("github", "partners"), KEYED, None, 0.0) == Caller("partners", "acme")
    assert found.check(("github", "partners"), [], None, 0.0) is None
    assert found.check(("github", "partners"), SIGNED, b"other", 0.0) == Denied(
        403, "The signature does not fit the body.", wrong=True
    )


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (ApiKeySettings(keys_env="GONE"), "auth.x: the environment variable GONE is not set"),
        (ApiKeySettings(keys_file="/nowhere/keys"), "auth.x: /nowhere/keys cannot be read: No such file"),
        (ApiKeySettings(keys_env="SHORT"), "auth.x: the key of acme: 16 to 512"),
        (ApiKeySettings(keys_env="EMPTY"), "auth.x: there are no keys"),
        (WebhookSettings(style="github", secret_env="SHORT"), "auth.x: a secret has 16 bytes"),
        (WebhookSettings(style="github", secret_env="EMPTY"), "auth.x: there is no secret"),
        (
            JwtSettings(jwks_file="/nowhere/jwks", issuer="i", audience="a"),
            "auth.x: /nowhere/jwks cannot be read",
        ),
    ],
)
def test_a_secret_that_is_missing_or_none_is_told_without_showing_it(
    settings: AuthSettings, why: str
) -> None:
    environ = {
        "SHORT": "acme=short-one",
        "EMPTY": "# nothing\n" if isinstance(settings, ApiKeySettings) else "\n",
    }
    with pytest.raises(SettingsError, match=why) as raised:
        Authentications({"x": settings}, environ)
    assert "short-one" not in str(raised.value)


def test_a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"acme={KEY}\n")
    found = made(tmp_path, file=ApiKeySettings(keys_file=str(file)))

    def caller() -> str:
        got = found.check(("file",), KEYED, None, 0.0)
        return got.name if isinstance(got, Caller) else ""

    assert caller() == "acme"
    file.write_text(f"beta={KEY}\n")
    found.refresh()
    assert caller() == "beta"
    file.write_text("gamma=short-one\n")
    with caplog.at_level(logging.ERROR, "jetrunner.gateway"):
        found.refresh()
    assert caller() == "beta"
    assert [record.getMessage() for record in caplog.records] == [
        "the callers and their rights stay as they were: auth.file: the key of gamma: 16 to 512 visible ASCII characters are expected"
    ]


@pytest.mark.parametrize("keys", ["[" * 100_000, jwks({**jwk("ES256"), "x": 5})])
def test_a_jwks_that_is_nonsense_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: str
) -> None:
    found = made(tmp_path)
    (tmp_path / "jwks.json").write_text(keys)
    with caplog.at_level(logging.ERROR, "jetrunner.gateway"):
        found.refresh()
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith("the callers and their rights stay as they were: auth.staff: ")
    claims = {"sub": "ada", "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60}
    shown = [(b"authorization", b"Bearer " + token("ES256", claims).encode())]
    assert isinstance(found.check(("staff",), shown, None, 0.0), Caller)


def test_nothing_shows_in_a_repr(tmp_path: Path) -> None:
    assert repr(made(tmp_path)) == "Authentications(partners, github, staff)"
