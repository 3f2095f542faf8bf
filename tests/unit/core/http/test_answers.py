"""Problem details, ids of requests, and keys under which a request is stored once."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.http.idempotency import message_id
from runner.core.http.problem import problem, title
from runner.core.http.requestid import request_id

Headers = list[tuple[bytes, bytes]]


def key(*values: bytes) -> Headers:
    return [(b"idempotency-key", value) for value in values]


def test_a_problem_says_what_its_status_means_and_why() -> None:
    found = json.loads(
        problem(404, "There is nothing here.", request_id="r-1", more={"allow": ["GET"], "status": 1})
    )
    assert found == {
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "There is nothing here.", "request_id": "r-1",
        "allow": ["GET"],
    }  # fmt: skip
    assert json.loads(problem(500)) == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
    }
    assert (title(799), title(299)) == ("Error", "Response")


def test_the_id_of_a_request_is_the_clients_where_it_is_one() -> None:
    def asked(*values: bytes) -> str:
        return request_id([(b"x-request-id", value) for value in values], lambda bits: 2**bits - 1)

    assert asked(b"0af7651916cd43dd-8448:eb.21_1") == "0af7651916cd43dd-8448:eb.21_1"
    for none in (
        (),
        (b"short",),
        (b"x" * 129,),
        (b"a b c d e",),
        (b"abcdefgh\xff",),
        (b"abcdefgh", b"abcdefgh"),
    ):
        assert asked(*none) == "f" * 32


def test_the_same_key_is_the_same_message_for_one_caller_on_one_route() -> None:
    def asked(given: bytes, route: str = "POST /orders", caller: str = "acme") -> str | None:
        return message_id(key(given), "optional", route=route, caller=caller)

    first = asked(b"8e03978e-40d5")
    assert re.fullmatch(r"http-[0-9a-f]{40}", first or "")
    assert asked(b'"8e03978e-40d5"') == first == asked(b" 8e03978e-40d5 ")
    others = {
        first,
        asked(b"8e03978e-40d6"),
        asked(b"8e03978e-40d5", caller=""),
        asked(b"8e03978e-40d5", "POST /x"),
    }
    assert len(others) == 4


@given(st.text(), st.text(), st.text(), st.text())
def test_no_border_can_be_moved_between_route_and_caller(a: str, b: str, c: str, d: str) -> None:
    def asked(route: str, caller: str) -> str | None:
        return message_id(key(b"k"), "optional", route=route, caller=caller)

    try:
        assert (asked(a, b) == asked(c, d)) == ((a, b) == (c, d))
    except UnicodeEncodeError:
        return


@pytest.mark.parametrize(
    "values",
    [(b"",), (b"a b",), (b"x" * 256,), (b'"a',), (b'""',), (b"a\xff",), (b"a", b"a"), (b'a"b',), (b"a\x00",)],
)
def test_what_is_no_key_is_refused(values: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="Idempotency-Key is not one text"):
        message_id(key(*values), "optional", route="r", caller="")


def test_a_key_may_be_needed_or_not_looked_at() -> None:
    with pytest.raises(ValueError, match="needs an Idempotency-Key"):
        message_id([], "required", route="r", caller="")
    assert message_id([], "optional", route="r", caller="") is None
    assert message_id(key(b"a b"), "off", route="r", caller="") is None
