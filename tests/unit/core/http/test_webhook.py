"""Webhooks: signatures of each style by the vectors that their makers publish, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.http import webhook
from runner.core.http.caller import Caller, Denied
from runner.core.http.webhook import Style, Webhook

SECRET = b"It's a Secret to Everybody"
BODY = b'{"a":1}'
NOW = 1_700_000_000.0
Headers = list[tuple[bytes, bytes]]


def hook(style: Style, **more: Any) -> Webhook:
    return Webhook(**{"auth": "hook", "style": style, "secrets": (SECRET,), **more})


def signed(text: bytes, secret: bytes = SECRET) -> bytes:
    return hmac.new(secret, text, hashlib.sha256).hexdigest().encode()


def github(body: bytes = BODY) -> Headers:
    return [(b"x-hub-signature-256", b"sha256=" + signed(body))]


def stripe(body: bytes = BODY, time: bytes = b"1700000000") -> Headers:
    return [(b"stripe-signature", b"t=" + time + b",v1=" + signed(time + b"." + body) + b",v0=00")]


def standard(body: bytes = BODY, time: bytes = b"1700000000", identity: bytes = b"msg_1") -> Headers:
    digest = hmac.digest(SECRET, identity + b"." + time + b"." + body, hashlib.sha256)
    return [
        (b"webhook-id", identity), (b"webhook-timestamp", time), (b"webhook-signature", b"v1a,x v1," + base64.b64encode(digest)),
    ]  # fmt: skip


def test_the_vector_of_github_holds() -> None:
    headers = [
        (b"x-hub-signature-256", b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
    ]
    assert hook("github").check(headers, b"Hello, World!", NOW) == Caller("hook", "hook")


def test_the_vector_of_standard_webhooks_holds() -> None:
    secret = webhook.secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "standard")
    headers = [
        (b"webhook-id", b"msg_p5jXN8AQM9LWM0D4loKWxJek"),
        (b"webhook-timestamp", b"1614265330"),
        (b"webhook-signature", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]
    body = b'{"test": 2432232314}'
    assert isinstance(hook("standard", secrets=(secret,)).check(headers, body, 1614265330), Caller)


@pytest.mark.parametrize(
    ("style", "headers"), [("github", github()), ("stripe", stripe()), ("standard", standard())]
)
def test_a_body_that_is_signed_is_taken_and_another_is_not(style: Style, headers: Headers) -> None:
    assert isinstance(hook(style).check(headers, BODY, NOW), Caller)
    found = hook(style).check(headers, BODY + b" ", NOW)
    assert isinstance(found, Denied)
    assert found.status == 403


@pytest.mark.parametrize(("style", "headers"), [("stripe", stripe()), ("standard", standard())])
@pytest.mark.parametrize(
    ("off", "taken"), [(0, True), (299, True), (-299, True), (301, False), (-301, False)]
)
def test_a_signed_time_may_be_off_by_the_tolerance(
    style: Style, headers: Headers, off: int, *, taken: bool
) -> None:
    assert isinstance(hook(style).check(headers, BODY, NOW + off), Caller) == taken


def test_a_time_that_was_changed_breaks_the_signature() -> None:
    headers = [(b"stripe-signature", stripe()[0][1].replace(b"1700000000", b"1700000100"))]
    assert isinstance(hook("stripe").check(headers, BODY, NOW), Denied)


def test_while_a_secret_is_changed_both_are_taken() -> None:
    both = hook("github", secrets=(b"a new secret of the hook", SECRET))
    assert isinstance(both.check(github(), BODY, NOW), Caller)


def test_one_good_signature_of_several_is_enough() -> None:
    value = stripe()[0][1].replace(b"v1=", b"v1=" + b"0" * 64 + b",v1=", 1)
    assert isinstance(hook("stripe").check([(b"stripe-signature", value)], BODY, NOW), Caller)


def test_signatures_of_ones_own_stand_where_the_settings_say() -> None:
    plain = hook("generic", header="x-sig", prefix="v=", encoding="base64", timestamp_header="x-time")
    digest = base64.b64encode(hmac.digest(SECRET, b"1700000000." + BODY, hashlib.sha256))
    headers = [(b"x-sig", b"v=" + digest), (b"x-time", b"1700000000")]
    assert isinstance(plain.check(headers, BODY, NOW), Caller)
    assert isinstance(plain.check(headers, BODY, NOW + 301), Denied)
    assert isinstance(hook("generic").check([(b"x-signature", signed(BODY))], BODY, 0.0), Caller)


@pytest.mark.parametrize(
    ("style", "headers"),
    [
        ("github", []),
        ("github", [(b"x-hub-signature-256", signed(BODY))]),
        ("github", [(b"x-hub-signature", b"sha1=" + signed(BODY))]),
        ("github", [(b"x-hub-signature-256", b"sha256=")]),
        ("github", [(b"x-hub-signature-256", b"sha256=zz")]),
        ("github", [(b"x-hub-signature-256", b"sha256=" + signed(BODY)[:-2])]),
        ("github", github() * 2),
        ("stripe", [(b"stripe-signature", b"t=1700000000")]),
        ("stripe", [(b"stripe-signature", b"v1=" + signed(BODY))]),
        ("stripe", [(b"stripe-signature", b"t=x,v1=" + signed(BODY))]),
        ("stripe", [(b"stripe-signature", b"t=1,t=2,v1=" + signed(BODY))]),
        ("stripe", [(b"stripe-signature", b"t=1" + b"0" * 400 + b",v1=" + signed(BODY))]),
        ("standard", standard()[1:]),
        ("standard", standard()[:2]),
        ("standard", [*standard()[:2], (b"webhook-signature", b"v1,!!")]),
        ("generic", [(b"x-signature", b"\xff\xfe")]),
    ],
)
def test_who_shows_no_signature_is_asked_for_one(style: Style, headers: Headers) -> None:
    found = hook(style).check(headers, BODY, NOW)
    assert isinstance(found, Denied)
    assert (found.status, found.challenge) == (401, "Signature")


@given(st.binary(max_size=200))
def test_whatever_stands_in_the_header_is_denied(value: bytes) -> None:
    for style, header in (
        ("github", b"x-hub-signature-256"),
        ("stripe", b"stripe-signature"),
        ("generic", b"x-signature"),
    ):
        assert isinstance(hook(style).check([(header, value)], BODY, NOW), Denied)  # type: ignore[arg-type]


def test_a_header_of_thousands_of_signatures_is_looked_at_in_part() -> None:
    value = b"t=1700000000" + b",v1=" * 5_000 + b"," + stripe()[0][1].partition(b",")[2]
    assert isinstance(hook("stripe").check([(b"stripe-signature", value)], BODY, NOW), Denied)


@pytest.mark.parametrize(
    ("text", "style"), [("short", "github"), ("whsec_!!", "standard"), ("whsec_aGk=", "standard")]
)
def test_what_is_no_secret_is_told_without_showing_it(text: str, style: Style) -> None:
    with pytest.raises(ValueError, match=r"base64|16 bytes") as raised:
        webhook.secret(text, style)
    assert text not in str(raised.value)


def test_no_secret_shows_in_a_repr() -> None:
    assert repr(hook("github")) == "Webhook('hook', 'github')"
