"""The OpenAPI document: by the official schema, with the types that functions have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, structs
from openapi_spec_validator import OpenAPIV31SpecValidator

from runner.core.http import authsettings, declared, ingress
from runner.core.http.route import Route
from runner.discovery import Project
from runner.gateway import routefile
from runner.schemas import openapi
from runner.schemas.described import answers
from tests.support import webshop
from tests.support.manifests import ingress as manifest
from tests.support.manifests import path, rule

AUTH = authsettings.read(
    {
        "partners": {"kind": "api_key", "keys_env": "KEYS"},
        "bots": {"kind": "api_key", "keys_env": "KEYS", "header": "Authorization"},
        "staff": {"kind": "jwt", "jwks_file": "jwks.json", "issuer": "i", "audience": "a"},
        "github": {"kind": "webhook", "style": "github", "secret_env": "SECRET"},
    },
    str,
)
TABLES = [
    {
        "path": "/stock/{sku}",
        "method": ["GET", "POST"],
        "request": "stock.{sku}",
        "auth": ["partners", "staff"],
    },
    {"path": "/hook", "publish": "orders.created", "auth": "github", "idempotency": "required"},
    {"path": "/nobody", "publish": "somewhere.else", "host": "*.a.com", "idempotency": "off"},
]


def routes() -> list[Route]:
    services = routefile.services(webshop.bindings())
    found = ingress.read(
        manifest(rule(path("/quote/", "quote"), path("/x", "gone"), host="example.com")), services
    )
    return [*declared.read(TABLES), *found.routes]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document(webshop.project(), routes(), AUTH)


def content(found: dict[str, Any], kind: str = "application/json") -> Any:
    return found["content"][kind]["schema"]


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_it_is_openapi_by_the_official_schema(document: dict[str, Any]) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert document["info"] == {"title": "shop", "version": "1.2.3"}


def test_a_project_without_routes_has_a_document_too() -> None:
    found = openapi.document(Project(Path("/shop"), "shop", ()), (), {})
    assert [error.message for error in OpenAPIV31SpecValidator(found).iter_errors()] == []


def test_every_route_is_a_path_but_for_those_that_nobody_answers(document: dict[str, Any]) -> None:
    assert {path: sorted(methods) for path, methods in document["paths"].items()} == {
        "/addresses/{id}": ["put"], "/events": ["get"], "/files": ["post"], "/hook": ["post"], "/nobody": ["post"], "/odd": ["get"],
        "/orders": ["get", "post"], "/orders/{id}": ["get"], "/quote": ["post"], "/stock/{sku}": ["get", "post"], "/text": ["get"],
    }  # fmt: skip
    ids = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len({*ids}) == len(ids)
    assert {"order", "stock_get", "stock_post", "post_nobody", "quote"} < {*ids}


def test_tokens_and_query_have_their_types_and_defaults(document: dict[str, Any]) -> None:
    found = {each["name"]: each for each in document["paths"]["/orders/{id}"]["get"]["parameters"]}
    assert found["id"] == {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
    }
    assert found["expand"]["schema"] == {"type": "boolean", "default": False}
    assert found["tag"]["schema"] == {"type": "array", "items": {"type": "string"}, "default": []}
    found = {each["name"]: each for each in document["paths"]["/orders"]["get"]["parameters"]}
    assert found["after"]["required"]
    assert (found["limit"]["required"], found["limit"]["schema"]) == (False, {"type": "integer", "maximum": 100, "default": 10})  # fmt: skip


def test_a_token_says_what_a_path_and_a_subject_may_hold(document: dict[str, Any]) -> None:
    path, subject = (
        document["paths"][where]["put" if "addresses" in where else "get"]["parameters"][0]["schema"][
            "pattern"
        ]
        for where in ("/addresses/{id}", "/stock/{sku}")
    )
    held = {
        text: (bool(re.match(path, text)), bool(re.match(subject, text)))
        for text in ("a", "a/b", "a.b", "a b", "*", "..", "", "\x1f", "\x85")
    }
    assert held == {
        "a": (True, True), "a/b": (True, True), "a.b": (True, False), "a b": (True, False), "*": (True, False), "..": (False, False), "": (False, False),
        "\x1f": (False, False), "\x85": (False, False),
    }  # fmt: skip


def test_paths_that_differ_in_the_names_of_their_tokens_alone_are_one(document: dict[str, Any]) -> None:
    tables = [{"path": "/orders/{customer}", "method": "POST", "request": "orders.{customer}"}]
    found = openapi.document(webshop.project(), declared.read(tables), {})["paths"]
    assert sorted(found["/orders/{id}"]) == ["get", "post"]
    assert [each["name"] for each in found["/orders/{id}"]["post"]["parameters"]] == ["id"]
    assert "/orders/{customer}" not in found


def test_what_may_be_nothing_or_text_says_so() -> None:
    assert answers(int | None) == ({"json": int}, True)
    assert answers(str | int) == ({"text": str, "json": int}, False)
    assert answers(Any) == ({"json": Any, "text": str}, True)
    assert answers(None) == ({}, True)


def test_a_docstring_is_summary_and_description(document: dict[str, Any]) -> None:
    found = document["paths"]["/orders/{id}"]["get"]
    assert (found["summary"], found["description"]) == (
        "Find an order.",
        "With its lines where `expand` says so.",
    )
    assert document["paths"]["/text"]["get"]["summary"] == "text"


def test_bodies_and_answers_are_what_the_function_says(document: dict[str, Any]) -> None:
    paths = document["paths"]
    body = paths["/addresses/{id}"]["put"]["requestBody"]
    assert (body["required"], content(body), content(body, "application/msgpack")) == (
        True,
        ref("Address"),
        ref("Address"),
    )
    assert "204" in paths["/addresses/{id}"]["put"]["responses"]
    assert content(paths["/orders"]["get"]["responses"]["200"]) == ref("Page")
    assert content(paths["/files"]["post"]["requestBody"], "application/octet-stream") == {"minLength": 1}
    assert content(paths["/text"]["get"]["responses"]["200"], "text/plain") == {"type": "string"}
    assert paths["/events"]["get"]["responses"]["200"]["content"] == {"text/event-stream": {}}
    assert content(paths["/stock/{sku}"]["post"]["responses"]["200"]) == ref("Stock")
    assert not paths["/quote"]["post"]["requestBody"]["required"]
    assert "requestBody" not in paths["/stock/{sku}"]["get"]


def test_what_a_stream_takes_is_202_and_has_a_key(document: dict[str, Any]) -> None:
    hook, created, nobody = (document["paths"][path]["post"] for path in ("/hook", "/orders", "/nobody"))
    assert [sorted(each["responses"]) for each in (hook, created, nobody)] == [["202", "default"]] * 3
    assert [[each["required"] for each in one.get("parameters", ())] for one in (hook, created, nobody)] == [[True], [False], []]  # fmt: skip
    assert content(hook["requestBody"]) == ref("Order")  # as the function that reads the stream has it


def test_all_types_stand_once_pydantic_models_among_them(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert sorted(schemas) == ["Address", "Country", "Item", "Order", "Page", "Problem", "Stock"]
    assert schemas["Address"]["properties"]["country"]["anyOf"][0] == ref("Country")
    assert schemas["Order"]["properties"]["parent"]["anyOf"][0] == ref("Order")
    assert schemas["Item"]["properties"]["cents"]["minimum"] == 0


def test_who_may_ask_stands_with_the_path(document: dict[str, Any]) -> None:
    paths, schemes = document["paths"], document["components"]["securitySchemes"]
    assert paths["/stock/{sku}"]["get"]["security"] == [{"partners": []}, {"staff": []}]
    assert paths["/files"]["post"]["security"] == [{"staff": []}]
    assert "security" not in paths["/text"]["get"]
    assert schemes["partners"] == {"type": "apiKey", "in": "header", "name": "x-api-key"}
    assert schemes["bots"] == {"type": "http", "scheme": "bearer"}
    assert schemes["staff"] == {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    assert schemes["github"]["name"] == "X-Hub-Signature-256"


def test_hosts_are_servers_and_prefixes_say_what_they_take(document: dict[str, Any]) -> None:
    assert document["paths"]["/orders"]["get"]["servers"] == [{"url": "//api.example.com"}]
    assert document["paths"]["/nobody"]["post"]["servers"][0]["url"] == "//{label}.a.com"
    assert (
        document["paths"]["/quote"]["post"]["description"]
        == "Takes every path below it as well. Takes every method."
    )


def test_the_type_of_a_user_may_be_called_problem() -> None:
    class Problem(Struct):
        why: str

    binding = next(each for each in webshop.bindings() if each.function == "moved")
    body = Project(
        Path("/shop"), "shop",
        (taking(binding, Problem),),
    )  # fmt: skip
    found = openapi.document(body, (), {})
    assert sorted(found["components"]["schemas"]) == ["JetrunnerProblem", "Problem"]
    assert content(found["components"]["responses"]["Problem"], "application/problem+json") == ref(
        "JetrunnerProblem"
    )


def taking(binding: Any, annotation: Any) -> Any:
    body = structs.replace(binding.signature.body, annotation=annotation)
    return structs.replace(binding, signature=structs.replace(binding.signature, body=body))
