"""Files of routes: several documents, folders, lists; what is said of them, and what is wrong with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import yaml

from runner import Context, consume, reply
from runner.bindings import binding_of
from runner.core.http.backend import FunctionBackend, RequestBackend
from runner.core.http.manifest import ServiceBackends
from runner.core.subject import Template
from runner.errors import RouteFileError
from runner.gateway import routefile
from runner.routes import route
from tests.support.manifests import httproute, ingress, path, refs, rule

SERVICES: ServiceBackends = {"one": FunctionBackend("one")}


def dumped(*documents: object) -> str:
    return "---\n".join(yaml.encode(document).decode() for document in documents)


def test_documents_of_all_files_of_a_folder_are_routes_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(dumped(ingress(rule(path("/b")), name="b")))
    (tmp_path / "a.yml").write_text(
        dumped(ingress(rule(path("/a")), name="a"), httproute({"backendRefs": refs("one")}, name="a"))
    )
    (tmp_path / "c.json").write_text(json.dumps(ingress(rule(path("/c")), name="c")))
    for name in ("d.txt", ".e.yaml"):
        (tmp_path / name).write_text("nothing: of it is read")
    found = routefile.read([tmp_path], SERVICES)
    assert [each.name for each in found.routes] == [
        "ingress default/a", "httproute default/a", "ingress default/b", "ingress default/c",
    ]  # fmt: skip
    assert [file.name for file in found.files] == ["a.yml", "b.yaml", "c.json"]
    assert found.remarks == ()


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "a.yaml").write_text(dumped(ingress(rule(path("/a")))))
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert len(routefile.read([tmp_path, tmp_path / "a.yaml"], SERVICES).routes) == 1


def test_a_list_is_what_it_holds_and_other_kinds_are_left_alone_and_said_once(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    service = {"apiVersion": "v1", "kind": "Service"}
    items = [ingress(rule(path("/a", "gone"))), service, service]
    file.write_text(dumped({"apiVersion": "v1", "kind": "List", "items": items}))
    found = routefile.read([file], SERVICES)
    assert len(found.routes) == 1
    assert found.remarks == (
        f"{file}:4: ingress default/shop: service gone: the project has no such function (did you mean one?); its requests get 503",
        f"{file}: 2 documents of kind Service left alone: Ingress and HTTPRoute are read",
    )  # fmt: skip


def test_a_file_with_nothing_in_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# later\n")
    assert routefile.read([tmp_path], SERVICES).remarks == (f"{tmp_path / 'a.yaml'}: there is nothing in it",)


WRONG = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
spec:
  rules:
    - http:
        paths:
          - path: /a
            pathType: Prefix
            backend:
              service: {name: one}
          - path: b
            pathType: Prefix
            backend:
              service: {name: one}
"""


def test_all_that_is_wrong_is_told_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(WRONG + "---\nkind: [1]\n---\n- 1\n")
    (tmp_path / "b.yaml").write_text("a: [")
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    (tmp_path / "d.yaml").write_text("apiVersion: extensions/v1beta1\nkind: Ingress\n")
    (tmp_path / "e.yaml").write_text("apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: HTTPRoute\n")
    with pytest.raises(RouteFileError) as raised:
        routefile.read([tmp_path], SERVICES)
    told = str(raised.value).replace(f"{tmp_path}/", "").splitlines()
    assert told.pop(3).startswith("b.yaml:1: not YAML: ")
    assert told == [
        "a.yaml:13: spec.rules[0].http.paths[1].path: 'b' does not begin with a slash",
        "a.yaml:18: a manifest has a kind",
        "a.yaml:20: a manifest has a kind",
        "c.yaml: not UTF-8 text (byte 0)",
        "d.yaml:1: apiVersion: extensions/v1beta1 is not read: write networking.k8s.io/v1",
        "e.yaml:1: apiVersion: gateway.networking.k8s.io/v1alpha2 is not read: write gateway.networking.k8s.io/v1",
    ]


def test_what_is_wrong_in_a_list_is_told_with_its_place(tmp_path: Path) -> None:
    items = [ingress(rule(path("/a"))), ingress(rule(path("a")), name="b")]
    (tmp_path / "a.json").write_text(json.dumps({"kind": "List", "items": items}, indent=1))
    with pytest.raises(
        RouteFileError, match=r"a.json:\d\d: items\[1\]: spec.rules\[0\].http.paths\[0\].path: 'a'"
    ):
        routefile.read([tmp_path], SERVICES)


def test_a_manifest_that_stands_twice_is_told_with_both_places(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(dumped(ingress(rule(path("/a")))))
    with pytest.raises(RouteFileError, match=r"b.yaml:1: ingress default/shop stands in .*a.yaml:1 already"):
        routefile.read([tmp_path], SERVICES)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RouteFileError, match=r"gone.yaml: cannot be read: No such file"):
        routefile.read([tmp_path / "gone.yaml"], SERVICES)


def test_what_each_function_is_for_a_manifest() -> None:
    @reply("quotes")
    async def quote(body: bytes) -> bytes:
        return body

    @reply("prices.{customer}")
    async def price(customer: str) -> str:
        return customer

    @route("GET", "/health")
    async def health(ctx: Context) -> str:
        return "fine"

    @consume("orders.*")
    async def charge(body: bytes) -> None:
        del body

    found = routefile.services([binding_of(each) for each in (quote, price, health, charge)])  # type: ignore[misc]
    assert (found["quote"], found["health"]) == (
        RequestBackend(Template.parse("quotes")),
        FunctionBackend("health", "GET"),
    )
    assert str(found["price"]).startswith("its subject prices.{customer} has tokens")
    assert str(found["charge"]).startswith("the function of that name answers no requests")
