"""Manifests of Kubernetes in front of functions: `runner gateway --routes`, with `runner run` beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.process import RunnerProcess
from tests.support.project import Project, write
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

EXAMPLE = Path(__file__).parents[2] / "docs" / "howto" / "ingress" / "two-services.yaml"
SERVICES = """
    from runner import Context, reply

    @reply("shop.service1")
    async def service1(ctx: Context) -> str:
        return f"one: {ctx.headers['Jetrunner-Http-Path']}"

    @reply("shop.service2")
    async def service2(order: dict[str, int], ctx: Context) -> dict[str, int]:
        return {"two": order["cents"] + 1}
"""
CANARY = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: canary
spec:
  hostnames: ["example.com"]
  rules:
    - matches:
        - path: {type: PathPrefix, value: /old}
      filters:
        - type: URLRewrite
          urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
        - type: ResponseHeaderModifier
          responseHeaderModifier: {set: [{name: X-Canary, value: "yes"}]}
      backendRefs: [{name: service1, port: 80}]
    - matches:
        - path: {type: Exact, value: /moved}
      filters:
        - type: RequestRedirect
          requestRedirect: {scheme: https, path: {type: ReplaceFullPath, replaceFullPath: /service1}, statusCode: 301}
"""


@asynccontextmanager
async def gateway(project: Project, *routes: Path) -> AsyncIterator[tuple[httpx.AsyncClient, RunnerProcess]]:
    """The functions in one process, and the gateway in another; requests say `Host: example.com`."""
    running = project.start("run")
    edge = project.start("gateway", "--listen", "127.0.0.1:0", *(f"--routes={each}" for each in routes))
    address = (
        (await edge.seen(r"HTTP at http://"))
        .partition("HTTP at ")[2]
        .partition(":  ")[0]
        .split()[0]
        .rstrip(":")
    )
    await running.seen("service2")
    async with httpx.AsyncClient(base_url=address, headers={"Host": "example.com"}, timeout=60) as client:
        yield client, edge


async def test_the_ingress_of_two_services_works_as_it_stands(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"services": SERVICES}, nats=nats_server.url)
    async with gateway(project, EXAMPLE) as (client, edge):
        one = await client.get("/service1/some/path")
        two = await client.post("/service2", json={"cents": 41})
        neither = await client.get("/service12")
        elsewhere = await client.get("/service1", headers={"Host": "other.com"})
        assert (one.status_code, one.text) == (200, "one: /service1/some/path")
        assert (two.status_code, two.json()) == (200, {"two": 42})
        assert (neither.status_code, elsewhere.status_code) == (404, 404)
        assert neither.headers["content-type"] == "application/problem+json"
        await edge.seen("these annotations are not known here and do nothing: istio.io/v1beta1")


async def test_an_httproute_rewrites_redirects_and_sets_headers(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"services": SERVICES}, nats=nats_server.url)
    (project.root / "routes").mkdir()
    (project.root / "routes" / "canary.yaml").write_text(CANARY)
    async with gateway(project, project.root / "routes") as (client, _):
        old = await client.get("/old/a%2Fb")
        moved = await client.get("/moved?x=1")
        assert (old.text, old.headers["x-canary"]) == ("one: /new/a%2Fb", "yes")
        assert (moved.status_code, moved.headers["location"]) == (301, "https://example.com/service1?x=1")


async def test_a_file_that_another_takes_the_place_of_is_read_again(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"services": SERVICES}, nats=nats_server.url)
    for version, path in (("1", "/service1"), ("2", "/renamed")):  # as the kubelet mounts a ConfigMap
        (project.root / version).mkdir()
        (project.root / version / "edge.yaml").write_text(EXAMPLE.read_text().replace("/service1", path))
    (project.root / "data").symlink_to("1")
    (project.root / "edge.yaml").symlink_to("data/edge.yaml")
    async with gateway(project, project.root / "edge.yaml") as (client, edge):
        assert (await client.get("/service1")).status_code == 200
        (project.root / "new").symlink_to("2")
        (project.root / "new").replace(project.root / "data")
        await edge.seen("routes were read again: 2 routes")
        assert [(await client.get(path)).status_code for path in ("/service1", "/renamed")] == [404, 200]
        write(project.root / "2" / "edge.yaml", "kind: Ingress\napiVersion: networking.k8s.io/v1\nspec: 1\n")
        await edge.seen("routes stay as they were: .*edge.yaml:")
        assert (await client.get("/renamed")).status_code == 200
    assert await asyncio.to_thread(lambda: edge.running)


async def test_a_page_to_try_it_is_served_where_the_settings_want_it(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(
        functions={"services": SERVICES}, settings="http_docs = true\n", nats=nats_server.url
    )
    async with gateway(project, EXAMPLE) as (client, _):
        page, document = await client.get("/docs"), await client.get("/openapi.json")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert sorted(document.json()["paths"]) == ["/service1", "/service2"]
        assert (await client.post("/docs")).status_code == 405
    project.settings("")
    async with gateway(project, EXAMPLE) as (client, _):
        assert [(await client.get(path)).status_code for path in ("/docs", "/openapi.json")] == [404, 404]
