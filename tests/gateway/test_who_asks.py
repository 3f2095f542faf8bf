"""Who may ask, over HTTP: keys, tokens and signatures in front of functions and streams."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.support.jetstream import RawJetStream
from tests.support.jwks import AUDIENCE, ISSUER, jwk, jwks, token
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

KEY, SECRET = "k-7f3a9c0d51e24b68", "s-7f3a9c0d51e24b68"
SETTINGS = f"""
[[tool.jetrunner.routes]]
path = "/orders/{{customer}}"
publish = "orders.{{customer}}.created"
timeout = "60s"
auth = ["partners", "staff"]
cors = {{ origins = ["https://app.example.com"], headers = ["x-api-key"] }}
[[tool.jetrunner.routes]]
path = "/hook"
publish = "orders.hook.created"
timeout = "60s"
auth = "github"
body_limit = 100
[[tool.jetrunner.routes]]
path = "/open/{{customer}}"
publish = "orders.{{customer}}.created"
timeout = "60s"
idempotency = "required"
[tool.jetrunner.auth.partners]
kind = "api_key"
keys_env = "PARTNERS"
[tool.jetrunner.auth.staff]
kind = "jwt"
jwks_file = "jwks.json"
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
[tool.jetrunner.auth.github]
kind = "webhook"
style = "github"
secret_env = "GITHUB"
"""
ORDERS = 'name = "ORDERS"\nsubjects = ["orders.{customer}.created"]\n'


@asynccontextmanager
async def gateway(
    make_project: Callable[..., Project], server: NatsServer
) -> AsyncIterator[tuple[httpx.AsyncClient, Callable[[], str]]]:
    """Requests to the gateway, and all that it has said."""
    project = make_project(streams={"orders": ORDERS}, settings=SETTINGS, nats=server.url)
    (project.root / "jwks.json").write_text(jwks(jwk("ES256")))
    await project.applied()
    edge = project.start("gateway", "--listen", "127.0.0.1:0", PARTNERS=f"acme={KEY}", GITHUB=SECRET)
    line = await edge.seen(r"HTTP at http://\S+:\d+")
    address = line.partition("HTTP at ")[2].split(": ")[0]
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        yield client, lambda: edge.output


async def test_a_key_or_a_token_lets_in_and_goes_no_further(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": time.time() + 60}
    bearer = token("ES256", claims)
    async with gateway(make_project, nats_server) as (client, said):
        keyed = await client.post("/orders/c1", json={}, headers={"X-Api-Key": KEY})
        signed = await client.post("/orders/c2", json={}, headers={"Authorization": f"Bearer {bearer}"})
        both = await client.post(
            "/orders/c3", json={}, headers={"X-Api-Key": KEY, "Authorization": f"Bearer {bearer}"}
        )
        assert [keyed.status_code, signed.status_code, both.status_code] == [202, 202, 202]
        for headers in ({}, {"X-Api-Key": KEY + "0"}, {"Authorization": f"Bearer {bearer}x"}):
            denied = await client.post("/orders/c3", json={}, headers=headers)
            assert denied.status_code == 401
            assert "ApiKey" in denied.headers["www-authenticate"]
            assert KEY not in denied.text
        stored = [await js.message("ORDERS", sequence) for sequence in (1, 2, 3)]
        for each in stored:
            assert KEY not in str(each)
            assert bearer not in str(each)
        assert KEY not in said()
        assert bearer not in said()


GUARDED = """
    from runner import route

    @route("GET", "/mine", auth="partners")
    async def mine() -> str:
        return "yours"
"""


async def test_a_function_asks_who_it_is_and_tells_pages_of_the_settings_origins(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    settings = f'cors = {{ origins = ["https://app.example.com"] }}\n{SETTINGS}'
    project = make_project(
        functions={"guarded": GUARDED}, streams={"orders": ORDERS}, settings=settings, nats=nats_server.url
    )
    (project.root / "jwks.json").write_text(jwks(jwk("ES256")))
    await project.applied()
    edge = project.start("gateway", "--listen", "127.0.0.1:0", PARTNERS=f"acme={KEY}", GITHUB=SECRET)
    address = (await edge.seen(r"HTTP at http://\S+:\d+")).partition("HTTP at ")[2].split(": ")[0]
    async with httpx.AsyncClient(
        base_url=address, headers={"Origin": "https://app.example.com"}, timeout=60
    ) as client:
        denied = await client.get("/mine")
        let_in = await client.get("/mine", headers={"X-Api-Key": KEY})
        assert [denied.status_code, let_in.status_code, let_in.text] == [401, 200, "yours"]
        assert let_in.headers["access-control-allow-origin"] == "https://app.example.com"
    project.function("guarded", GUARDED.replace("partners", "partner"))
    done = project.runner("check")
    assert done.code == 2
    assert "function mine: there is no auth 'partner'" in done.stderr


async def test_a_webhook_is_taken_with_its_signature_alone(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    body = b'{"action":"opened"}'
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
    async with gateway(make_project, nats_server) as (client, _):
        answers = [
            await client.post("/hook", content=body, headers=headers),
            await client.post("/hook", content=body + b" ", headers=headers),
            await client.post("/hook", content=body, headers={"Content-Type": "application/json"}),
            await client.post("/hook", content=b"x" * 101, headers=headers),
        ]
        assert [each.status_code for each in answers] == [202, 403, 401, 413]


async def test_a_page_of_another_origin_is_told_what_it_may(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}  # fmt: skip
    async with gateway(make_project, nats_server) as (client, _):
        preflight = await client.options("/orders/c1", headers=asked)
        stranger = await client.options("/orders/c1", headers={**asked, "Origin": "https://evil.com"})
        denied = await client.post("/orders/c1", json={}, headers={"Origin": "https://app.example.com"})
        assert preflight.status_code == stranger.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
        assert preflight.headers["access-control-allow-headers"] == "x-api-key"
        assert "access-control-allow-origin" not in stranger.headers
        assert (denied.status_code, denied.headers["access-control-allow-origin"]) == (
            401,
            "https://app.example.com",
        )


async def test_a_key_of_idempotency_stores_a_request_once(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    async with gateway(make_project, nats_server) as (client, _):
        headers = {"Idempotency-Key": "8e03978e-40d5"}
        first, again = [await client.post("/open/c1", json={}, headers=headers) for _ in range(2)]
        other = await client.post("/open/c2", json={}, headers=headers)
        without = await client.post("/open/c1", json={})
        assert [each.status_code for each in (first, again, other, without)] == [202, 202, 202, 400]
        assert (again.json()["duplicate"], again.json()["sequence"]) == (True, first.json()["sequence"])
        assert "duplicate" not in other.json()


async def test_a_token_of_the_path_is_data_or_refused(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    async with gateway(make_project, nats_server) as (client, _):

        async def status(token_of_path: str) -> int:
            url = client.base_url.copy_with(raw_path=f"/open/{token_of_path}".encode())
            return (await client.post(url, json={}, headers={"Idempotency-Key": "k"})).status_code

        refused = ["a.b", "*", "%3E", "a%20b", "%00", "%2e%2e", "%ff", "%0D%0A"]
        assert [await status(each) for each in refused] == [400] * len(refused)
        assert [await status(each) for each in ("a%2Fb", "a*b")] == [202, 202]
        assert [(await js.message("ORDERS", each)).subject for each in (1, 2)] == [
            "orders.a/b.created", "orders.a*b.created",
        ]  # fmt: skip
