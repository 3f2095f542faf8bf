"""Well-formed requests that would be more than requests: what a function behind the edge is told of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner import Context, reply
from runner.core.http.backend import Publish, RequestBackend
from runner.core.http.route import Path, Pattern, Prefix, Route, Weighted
from runner.core.subject import Template
from tests.gateway.conftest import Serving
from tests.support.hostile import INJECTED
from tests.support.rawhttp import connected

pytestmark = [pytest.mark.server, pytest.mark.anyio]


def to(path: Path, subject: str, kind: type[RequestBackend | Publish] = RequestBackend) -> Route:
    return Route(
        name=f"route {path.path}",
        hosts=("example.com",),
        path=path,
        methods=("GET",),
        backends=(Weighted(kind(Template.parse(subject))),),
    )


@reply("seen")
async def seen(ctx: Context) -> dict[str, Any]:
    return {"headers": dict(ctx.headers)}


@reply("token.{token}")
async def token(token: str, ctx: Context) -> dict[str, Any]:
    return {"token": token, "headers": dict(ctx.headers)}


ROUTES = (
    to(Prefix("/seen"), "seen"),
    to(Pattern("/token/{token}"), "token.{token}"),
)


async def test_it_is_refused_or_is_text_to_who_answers(serving: Serving) -> None:
    got: dict[str, Any] = {}
    async with serving(seen, token, routes=ROUTES) as (_, client), asyncio.timeout(60):
        for name, row in INJECTED.items():
            async with connected(client.base_url.port or 0) as raw:
                await raw.say(row.says)
                answer = await raw.answer()
                got[name] = answer.status
                if row.unseen:
                    assert row.unseen.encode() not in answer.body, name
                assert row.found.encode() in answer.body, name
                assert await raw.closed(), name
    assert got == {name: row.gets for name, row in INJECTED.items()}
