"""`runner schema`: documents for other programs, printed by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.project import Project

SHOP = """
    from msgspec import Struct

    from runner import consume, reply
    from runner.routes import route

    print("a module that talks")

    class Order(Struct):
        id: str

    @route("GET", "/orders/{id}")
    async def order(id: str) -> Order:
        return Order(id)

    @reply("quotes")
    async def quote(order: Order) -> int:
        return 1

    @consume("orders.{customer}.created")
    async def charge(order: Order, customer: str) -> None: ...
"""
INGRESS = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
spec:
  tls: [{secretName: shop}]
  rules:
    - http:
        paths:
          - {path: /quote, pathType: Prefix, backend: {service: {name: quote, port: {number: 80}}}}
"""
ROUTES = """
[[tool.jetrunner.routes]]
path = "/orders/{customer}"
publish = "orders.{customer}.created"
"""


def test_openapi_has_functions_declared_routes_and_manifests(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"shop": SHOP}, settings=ROUTES)
    (project.root / "routes.yaml").write_text(INGRESS)
    done = project.runner("schema", "openapi", "--routes", str(project.root / "routes.yaml"))
    assert done.code == 0
    assert sorted(json.loads(done.stdout)["paths"]) == ["/orders/{id}", "/quote"]
    assert "routes.yaml:1: ingress default/shop: tls: its secrets are not read here" in done.stderr


def test_asyncapi_has_subjects(make_project: Callable[..., Project]) -> None:
    done = make_project(functions={"shop": SHOP}).runner("schema", "asyncapi")
    assert done.code == 0
    assert sorted(json.loads(done.stdout)["operations"]) == ["charge", "quote"]


def test_a_file_of_routes_that_is_none_is_told(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"shop": SHOP})
    (project.root / "routes.yaml").write_text(INGRESS.replace("pathType", "pathtype"))
    done = project.runner("schema", "openapi", "--routes", str(project.root / "routes.yaml"))
    assert (done.code, done.stdout) == (2, "")
    assert "routes.yaml:10: spec.rules[0].http.paths[0]: contains unknown field pathtype" in done.stderr
