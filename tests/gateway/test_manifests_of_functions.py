"""Manifests in front of functions with `@route`: what the decorator says of who may ask, and how, holds there too."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from tests.gateway.test_ingress import SERVICES, gateway
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

KEY = "a-key-of-staff-that-is-long"
ROUTED = """
    from runner import Context, route

    @route("GET", "/own/secret", auth="staff")
    async def secret(ctx: Context) -> str:
        return f"{ctx.headers['Jetrunner-Http-Caller']} of {ctx.headers.get('Jetrunner-Http-Auth')}"

    @route("GET", "/own/item/{item}")
    async def item(item: str) -> str:
        return item
"""
MANIFESTS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: doors}
spec:
  rules:
    - http:
        paths:
          - {path: /secret, pathType: Exact, backend: {service: {name: secret}}}
          - {path: /item, pathType: Exact, backend: {service: {name: item}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: posts}
spec:
  rules:
    - matches: [{path: {type: Exact, value: /posted}, method: POST}]
      backendRefs: [{name: secret, port: 80}]
    - matches: [{path: {type: Exact, value: /second}}]
      backendRefs: [{name: secret, port: 80}]
"""


async def test_a_manifest_opens_no_function_to_whom_it_is_closed(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    project = make_project(
        functions={"services": SERVICES, "routed": ROUTED},
        settings=f'auth.staff = {{kind = "api_key", keys = {{ada = "sha256:{digest}"}}}}\n',
        nats=nats_server.url,
    )
    (project.root / "doors.yaml").write_text(MANIFESTS)
    async with gateway(project, project.root / "doors.yaml") as (client, edge):
        for path in ("/own/secret", "/secret", "/second"):
            assert (await client.get(path)).status_code == 401
            answer = await client.get(path, headers={"X-Api-Key": KEY, "Jetrunner-Http-Auth": "root"})
            assert (answer.status_code, answer.text) == (200, "ada of staff")
            other = await client.post(path, headers={"X-Api-Key": KEY})
            assert other.status_code == (405 if path == "/own/secret" else 404)
        assert (await client.get("/item")).status_code == 503
        assert (await client.post("/posted", headers={"X-Api-Key": KEY})).status_code == 500
        await edge.seen(r"service item: its path /own/item/\{item\} has tokens")
        await edge.seen("function secret answers GET, and the rule POST; its requests get 500")
