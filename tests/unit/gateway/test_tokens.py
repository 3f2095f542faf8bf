"""Bearer tokens: whose are taken, and every known way to get past the check."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from runner.core.http.authsettings import JwtSettings
from runner.core.http.caller import Caller, Denied
from runner.errors import SettingsError
from runner.gateway.tokens import LONGEST, Tokens
from tests.support.jwks import AUDIENCE, ISSUER, jwk, jwks, private, token, unsigned

SETTINGS = JwtSettings(jwks_file="jwks.json", issuer=ISSUER, audience=AUDIENCE, leeway=5)
KEYS = jwks(jwk("RS256"), jwk("ES256"), jwk("EdDSA"))


def tokens(keys: str = KEYS, **more: Any) -> Tokens:
    fields = {field: getattr(SETTINGS, field) for field in SETTINGS.__struct_fields__}
    return Tokens("staff", JwtSettings(**{**fields, **more}), keys)


def claims(**more: Any) -> dict[str, Any]:
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 60, **more}
    return {key: value for key, value in found.items() if value is not None}


def asked(given: str | bytes, known: Tokens | None = None) -> Caller | Denied:
    value = given.encode() if isinstance(given, str) else given
    return (known or tokens()).check([(b"authorization", b"Bearer " + value)])


@pytest.mark.parametrize("name", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_each_of_the_keys_is_its_subjects(name: str) -> None:
    found = asked(token(name, claims(scope="read")))
    assert isinstance(found, Caller)
    assert (found.auth, found.name, found.claims["scope"]) == ("staff", "ada", "read")


def test_a_token_without_a_kid_needs_the_only_key_of_its_algorithm() -> None:
    assert isinstance(asked(token("ES256", claims(), kid=None)), Caller)
    two = tokens(jwks(jwk("ES256"), jwk("ES256-b")))
    assert isinstance(asked(token("ES256", claims(), kid=None), two), Denied)
    assert isinstance(asked(token("ES256", claims()), two), Caller)


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": None}, {"exp": 1}, {"exp": int(time.time()) - 60}, {"exp": "soon"}, {"exp": float("inf")},
        {"nbf": int(time.time()) + 86_400}, {"iat": int(time.time()) + 86_400},
        {"iss": None}, {"iss": "https://evil.com/"}, {"iss": ISSUER.rstrip("/")},
        {"aud": None}, {"aud": "others"}, {"aud": []}, {"aud": 1},
        {"sub": None}, {"sub": ""}, {"sub": "a\nb"}, {"sub": "x" * 257},
    ],
)  # fmt: skip
def test_claims_that_do_not_hold_are_denied(wrong: dict[str, Any]) -> None:
    found = asked(token("ES256", claims(**wrong)))
    assert isinstance(found, Denied)
    assert (found.status, found.challenge) == (401, 'Bearer error="invalid_token"')


def test_one_of_several_audiences_is_enough_and_clocks_may_differ_a_little() -> None:
    assert isinstance(asked(token("ES256", claims(aud=["x", AUDIENCE]))), Caller)
    assert isinstance(asked(token("ES256", claims(exp=int(time.time()) - 2))), Caller)
    assert isinstance(asked(token("ES256", claims(aud="y")), tokens(audience=("x", "y"))), Caller)
    assert isinstance(asked(token("ES256", claims(aud="whatever")), tokens(audience=())), Caller)


def test_an_expired_token_is_told_so_without_a_word_of_it() -> None:
    found = asked(token("ES256", claims(exp=1)))
    assert isinstance(found, Denied)
    assert found.detail == "The token has expired."


def test_a_token_without_a_signature_is_denied() -> None:
    for algorithm in ("none", "None", "NONE", "", None):
        assert isinstance(asked(unsigned({"alg": algorithm, "kid": "ES256"}, claims())), Denied)


def test_a_public_key_taken_for_a_shared_secret_is_denied() -> None:
    public = private("RS256").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = unsigned({"alg": "HS256", "kid": "RS256"}, claims())
    body = text.rstrip(".").encode()
    signature = hmac.digest(public, body, hashlib.sha256)
    header, payload, _ = text.split(".")
    forged = ".".join([header, payload, unsigned({}, {}, signature).rpartition(".")[2]])
    assert isinstance(asked(forged), Denied)


def test_a_token_signed_by_a_stranger_is_denied_whatever_it_says_of_its_key() -> None:
    assert isinstance(asked(token("ES256-stranger", claims(), kid="ES256")), Denied)
    assert isinstance(asked(token("ES256-stranger", claims(), kid=None)), Denied)
    for header in (
        {"jwk": jwk("ES256-stranger")},
        {"jku": "https://evil.com/jwks"},
        {"x5u": "https://evil.com"},
    ):
        assert isinstance(asked(token("ES256-stranger", claims(), **header)), Denied)


def test_a_key_is_taken_for_its_own_algorithms_alone() -> None:
    only = tokens(algorithms=("ES256",))
    assert isinstance(asked(token("EdDSA", claims()), only), Denied)
    assert isinstance(asked(token("ES256", claims(), kid="EdDSA")), Denied)
    told = tokens(jwks(jwk("RS256", alg="RS256")), algorithms=("RS256", "PS256"))
    assert isinstance(asked(token("RS256", claims()), told), Caller)
    assert isinstance(asked(token("PS256", claims(), kid="RS256"), told), Denied)


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"typ": "secevent+jwt"}, {"kid": "gone"}, {"kid": ""}])
def test_headers_that_say_it_is_something_else_are_denied(header: dict[str, Any]) -> None:
    assert isinstance(asked(token("ES256", claims(), **header)), Denied)


def test_a_token_that_was_changed_is_denied() -> None:
    given = token("ES256", claims())
    header, payload, signature = given.split(".")
    other = unsigned({}, claims(sub="root")).split(".")[1]
    for changed in (
        f"{header}.{other}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        given + "x",
        "a.b.c",
        "",
    ):
        assert isinstance(asked(changed), Denied)


def test_who_has_no_token_is_asked_for_one() -> None:
    given = token("ES256", claims()).encode()
    several: list[list[tuple[bytes, bytes]]] = [
        [], [(b"authorization", b"Basic " + given)], [(b"authorization", given)], [(b"authorization", b"Bearer " + given)] * 2,
        [(b"authorization", b"Bearer " + b"x" * (LONGEST + 1))],
    ]  # fmt: skip
    for headers in several:
        found = tokens().check(headers)
        assert isinstance(found, Denied)
        assert (found.status, found.challenge) == (401, "Bearer")


@given(st.binary(max_size=120))
def test_whatever_is_given_for_a_token_is_denied(value: bytes) -> None:
    assert isinstance(asked(value, KNOWN), Denied)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), st.one_of(st.none(), st.text(max_size=8), st.integers(), st.lists(st.integers()), st.sampled_from(["ES256", "RS256"]))), st.binary(max_size=80))  # fmt: skip
def test_whatever_a_header_says_is_denied(header: dict[str, Any], signature: bytes) -> None:
    assert isinstance(asked(unsigned(header, claims(), signature), KNOWN), Denied)


KNOWN = tokens()


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ("", "it is no JWKS"),
        ("[]", "it is no JWKS"),
        ('{"keys": [1]}', "it is no JWKS"),
        ("[" * 100_000, "it is no JWKS"),
        ('{"keys": []}', "it holds no key for RS256, ES256, EdDSA"),
        (jwks(jwk("ES384")), "it holds no key for"),
        (jwks(jwk("ES256", use="enc")), "it holds no key for"),
        (jwks({**jwk("ES256"), "d": "c2VjcmV0LXNlY3JldA"}), "it holds a key that is secret"),
        (jwks({"kty": "oct", "k": "c2VjcmV0LXNlY3JldA", "kid": "x"}), "it holds a key that is secret"),
        (jwks({**jwk("ES256"), "x": "c2VjcmV0LXNlY3JldA"}), "key 1 cannot be read"),
        (jwks({**jwk("ES256"), "x": 5}), "key 1 cannot be read"),
        (jwks(jwk("weak")), "key 1 has too few bits"),
    ],
)
def test_what_is_no_jwks_is_told_without_showing_a_key(keys: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"auth.staff: jwks.json: {why}") as raised:
        tokens(keys)
    assert "c2VjcmV0" not in str(raised.value)


def test_keys_of_other_kinds_stand_beside_ours() -> None:
    found = tokens(
        json.dumps({"keys": [jwk("ES384"), jwk("ES256"), {"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq"}]})
    )
    assert isinstance(asked(token("ES256", claims()), found), Caller)


def test_no_key_shows_in_a_repr() -> None:
    assert repr(tokens()) == f"Tokens('staff', '{ISSUER}')"
