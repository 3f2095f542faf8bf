"""Which values are hidden, in which text."""

from __future__ import annotations

import json

import msgspec
import pytest

from runner.core.redaction import MOST, MSGPACK, REDACTED, Rules

RULES = Rules.of(["Authorization", "customer.card", "x.y"])


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"customer": {"card": "4111"}}, {"customer": {"card": REDACTED}}),
        ({"CUSTOMER": {"Card": {"number": [1, 2]}}}, {"CUSTOMER": {"Card": REDACTED}}),
        (
            [{"customer": [[{"card": 1}], {"card": None}]}],
            [{"customer": [[{"card": REDACTED}], {"card": REDACTED}]}],
        ),
        ({"customer.card": 1, "card": 2}, {"customer.card": REDACTED, "card": 2}),
        ({"authorization": "x", "y": "é"}, {"authorization": REDACTED, "y": "é"}),
    ],
)
def test_a_path_goes_through_objects_and_every_element_of_arrays(body: object, shown: object) -> None:
    assert json.loads(RULES.body(json.dumps(body).encode())) == shown
    packed = RULES.body(msgspec.msgpack.encode(body), f"{MSGPACK}; charset=utf-8")
    assert msgspec.msgpack.decode(packed) == shown


@pytest.mark.parametrize("body", [b"", b"plain text", b'{"customer": {"name": "card"}}', b"\xff\x00", b"[1,"])
def test_a_body_that_holds_nothing_of_it_is_shown_as_it_is(body: bytes) -> None:
    assert RULES.body(body) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"customer": {"card": "4111',
        b'{"customer": {"c\\u0061rd": "4111"',
        b"CARD=4111",
        b"[" * 200_000 + b'{"customer": {"card": "4111"}}',
        msgspec.msgpack.encode({"customer": {"card": "4111"}}),
        '{"customer": {"card": "4111"'.encode("utf-16"),
    ],
)
def test_a_body_that_cannot_be_read_and_may_hold_it_is_hidden_whole(body: bytes) -> None:
    assert RULES.body(body) == REDACTED.encode()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_each_of_its_encodings(encoding: str) -> None:
    body = '{"customer": {"c\\u0061rd": "4111"}}'.encode(encoding)
    assert json.loads(RULES.body(body)) == {"customer": {"card": REDACTED}}


def test_bytes_that_are_no_utf_8_stay_beside_what_is_hidden() -> None:
    assert (
        RULES.body(b'{"n": "\xff", "customer": {"card": "4"}}')
        == b'{"n": "\xff", "customer": {"card": "[redacted]"}}'
    )


def test_of_a_member_that_is_there_twice_both_are_hidden() -> None:
    body = b'{"customer": {"card": "first-1", "card": "second-2"}}'
    assert b"first" not in RULES.body(body)
    assert RULES.values([], body).hide("first-1, second-2") == f"{REDACTED}, {REDACTED}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("4111-1111", "4111-1111"),
        ('it\'s "so"\n', repr('it\'s "so"\n')),
        ("tab\there é", json.dumps("tab\there é")),
        ("two  words", "two words"),
        (12345678, "12345678"),
        (1.50, "1.5"),
        ("line one is long\nline two is long", "  line one is long\n  line two is long"),
        ("\x1bred", r"\x1bred"),
    ],
)
def test_a_value_is_found_in_the_ways_that_text_is_written(value: object, text: str) -> None:
    body = json.dumps({"customer": {"card": value}}).encode()
    hidden = RULES.values([], body).hide(f"said {text}!")
    if value == 1.50:  # shorter than four characters
        assert hidden == f"said {text}!"
    else:
        assert text.strip("'\"") not in hidden
        assert REDACTED in hidden


def test_a_fraction_is_found_as_it_was_written_and_as_python_writes_it() -> None:
    hide = RULES.values([], b'{"customer": {"card": 123.4500}}').hide
    assert hide("123.4500 or 123.45") == f"{REDACTED} or {REDACTED}"


def test_a_part_that_a_cut_has_left_is_hidden() -> None:
    hide = RULES.values([], b'{"customer": {"card": "4111-2222-3333"}}').hide
    assert hide("bad card 4111-22…") == f"bad card {REDACTED}…"
    assert hide("bad card 4111-22… (and more)") == f"bad card {REDACTED}… (and more)"
    assert hide("…22-3333 is bad") == f"…{REDACTED} is bad"
    assert hide("nothing of it…") == "nothing of it…"


def test_the_token_of_a_header_is_hidden_without_its_scheme() -> None:
    hide = RULES.values([("AUTHORIZATION", "Bearer abc.def"), ("Other", "shown")], b"").hide
    assert hide("Bearer abc.def, abc.def, shown, Bearer") == f"{REDACTED}, {REDACTED}, shown, Bearer"


def test_with_too_many_values_all_text_is_hidden() -> None:
    body = json.dumps({"customer": {"card": [f"value-{number}" for number in range(MOST + 1)]}}).encode()
    assert RULES.values([], body).hide("value-1") == REDACTED


def test_without_rules_nothing_is_hidden() -> None:
    body = b'{"authorization": "4111-1111"}'
    assert Rules.of([]).body(body) == body
    assert not Rules.of([]).values([("Authorization", "4111-1111")], body)
