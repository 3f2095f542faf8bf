"""Routes that a project declares by itself."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.http import declared
from runner.core.http.backend import Publish, RequestBackend
from runner.core.http.cors import Cors
from runner.core.http.manifest import Fault
from runner.core.http.route import Exact, Options, Pattern, Weighted
from runner.core.subject import Template


def table(**fields: Any) -> dict[str, Any]:
    return {"path": "/orders/{customer}", "publish": "orders.{customer}.created", **fields}


def test_a_path_leads_to_a_stream_or_to_whoever_answers() -> None:
    stream, answer = declared.read(
        [table(), {"path": "/quotes", "method": ["GET", "POST"], "request": "quotes"}]
    )
    assert (stream.path, stream.methods) == (Pattern("/orders/{customer}"), ("POST",))
    assert stream.backends == (Weighted(Publish(Template.parse("orders.{customer}.created"))),)
    assert (answer.path, answer.methods) == (Exact("/quotes"), ("GET", "POST"))
    assert answer.backends == (Weighted(RequestBackend(Template.parse("quotes"))),)
    assert (stream.name, answer.name) == ("route POST /orders/{customer}", "route GET,POST /quotes")


def test_options_are_read_as_people_write_them() -> None:
    cors = {"origins": ["https://app.example.com"], "credentials": True}
    given = table(host="api.example.com", timeout="5s", body_limit="1MiB", auth="partners", cors=cors, idempotency="required")  # fmt: skip
    (route,) = declared.read([given])
    assert route.hosts == ("api.example.com",)
    assert route.options == Options(
        timeout=5.0, body_limit=2**20, auth=("partners",), cors=Cors(origins=("https://app.example.com",), credentials=True),
        idempotency="required",
    )  # fmt: skip
    assert declared.read([table(timeout=2, body_limit=10, auth=["a", "b"])])[0].options == Options(timeout=2.0, body_limit=10, auth=("a", "b"))  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"pathh": "/x"}, r"route 1 \(/orders/\{customer\}\): contains unknown field pathh"),
        ({"path": None}, "route 1: missing required field path"),
        ({"path": "orders", "publish": "orders"}, r"route 1 \(orders\): path 'orders'"),
        ({"path": "/a{b}"}, "whole segment"),
        ({"method": "post"}, "method 'post' is not a word in capitals"),
        ({"method": []}, "method: name one"),
        ({"host": "a:80"}, "host 'a:80' is not a name"),
        ({"request": "quotes"}, "it has either request"),
        ({"publish": None}, "it has either request"),
        ({"publish": "orders.{id}"}, r"subject 'orders.\{id\}': \{id\} is not a token of the path"),
        ({"publish": "orders..x"}, "it has an empty token"),
        ({"publish": "orders.*"}, "a bare wildcard"),
        ({"publish": "{customer}.orders"}, "a token of your own"),
        ({"publish": "parked.{customer}"}, "a token of your own"),
        ({"timeout": "soon"}, "timeout: 'soon' is not a duration"),
        ({"timeout": 0}, "timeout: a time over 0"),
        ({"timeout": True}, "timeout: expected"),
        ({"body_limit": "much"}, "body_limit: 'much' is not a size"),
        ({"idempotency": "yes"}, "idempotency: invalid enum value 'yes'"),
        (
            {"publish": None, "request": "quotes", "idempotency": "required"},
            "idempotency: an Idempotency-Key keeps",
        ),
        ({"cors": {"origins": ["*"], "credentials": True}}, "cors: credentials: with the origin"),
        ({"cors": {"origin": ["*"]}}, "cors: contains unknown field origin"),
    ],
)
def test_what_is_no_route_is_told_with_its_number_and_path(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(Fault, match=why):
        declared.read([table(**fields)])


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ({}, {"path": "/orders/{id}", "publish": "a.{id}"}, r"route 2 \(/orders/\{id\}\): .* of route 1 already: POST /orders/\{\}"),
        ({"host": "A.com"}, {"host": ["b.com", "a.com"]}, "already: POST a.com/orders"),
        ({"method": ["GET", "PUT"]}, {"method": ["PUT"]}, "already: PUT /orders"),
    ],
)  # fmt: skip
def test_two_routes_for_the_same_requests_are_refused(
    one: dict[str, Any], other: dict[str, Any], why: str
) -> None:
    with pytest.raises(Fault, match=why):
        declared.read([table(**one), table(**other)])


def test_routes_that_differ_in_host_method_or_literals_stand_beside_each_other() -> None:
    tables = [table(), table(method="PUT"), table(host="a.com"), table(path="/orders/x", publish="a.b")]
    assert len(declared.read(tables)) == 4
