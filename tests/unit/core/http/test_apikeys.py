"""API keys: who is found, who is not, and that no key shows."""

from __future__ import annotations

import hashlib

import pytest

from runner.core.http import apikeys
from runner.core.http.apikeys import ApiKeys
from runner.core.http.caller import Caller, Denied

KEY = "k-7f3a9c0d51e24b68"
OTHER = "k-0000000000000001"
KEYS = ApiKeys("partners", apikeys.entries(f"acme={KEY}\nbeta={OTHER}"))


def test_a_key_is_its_callers() -> None:
    assert KEYS.check([(b"x-api-key", KEY.encode())]) == Caller("partners", "acme")
    assert KEYS.check([(b"x-api-key", b" " + OTHER.encode())]) == Caller("partners", "beta")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-api-key", b"")],
        [(b"x-api-key", KEY[:-1].encode())],
        [(b"x-api-key", KEY.encode() + b"0")],
        [(b"x-api-key", b"x" * 10_000)],
        [(b"x-api-key", b"\xff")],
        [(b"x-api-key", KEY.encode()), (b"x-api-key", KEY.encode())],
        [(b"x-api-key", hashlib.sha256(KEY.encode()).hexdigest().encode())],
        [(b"authorization", b"Bearer " + KEY.encode())],
    ],
)
def test_whatever_else_comes_is_denied_without_a_word_of_it(headers: list[tuple[bytes, bytes]]) -> None:
    found = KEYS.check(headers)
    assert isinstance(found, Denied)
    assert (found.status, found.challenge) == (401, "ApiKey")
    assert KEY[:6] not in found.detail


def test_a_key_may_come_as_a_bearer_token() -> None:
    keys = ApiKeys("partners", KEYS.digests, "authorization")
    assert keys.check([(b"authorization", b"bearer " + KEY.encode())]) == Caller("partners", "acme")
    for wrong in (KEY, f"Basic {KEY}", "Bearer", "Bearer "):
        found = keys.check([(b"authorization", wrong.encode())])
        assert isinstance(found, Denied)
        assert found.challenge == "Bearer"


def test_keys_stand_as_they_are_or_as_their_digest() -> None:
    digest = hashlib.sha256(KEY.encode())
    found = apikeys.entries(
        f"# a comment\nacme = {KEY}\n\nbeta=sha256:{digest.hexdigest().upper()},c={OTHER}"
    )
    assert (found["acme"], found["beta"], len(found)) == (digest.digest(), digest.digest(), 3)


@pytest.mark.parametrize(
    "text",
    ["acme", "acme=short", "acme=sha256:12", f"a b={KEY}", f"={KEY}", f"a={KEY}\na={OTHER}", f"a={KEY} {KEY}", "a=" + "ü" * 20, "a=" + "x" * 600],
)  # fmt: skip
def test_what_is_no_key_is_told_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as raised:
        apikeys.entries(text)
    assert KEY not in str(raised.value)
    assert "short" not in str(raised.value)


def test_no_key_shows_in_a_repr() -> None:
    assert repr(KEYS) == "ApiKeys('partners', 2 keys, 'x-api-key')"
