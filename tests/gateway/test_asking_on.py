"""A function with `@route` that asks others by `ctx.request`: what they answer is what the client gets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner import Context, Reject, Retry, reply, route
from runner.core.answered import Answered, relayed, responded
from runner.core.settlement import Failed
from runner.errors import NoResponders, ServiceError, Unconfirmed
from tests.gateway.conftest import Serving

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServiceError("no such order", code=404), 404),
        (ServiceError("taken", code=409), 409),
        (ServiceError("no", code=422), 422),
        (ServiceError("odd", code=401), 502),
        (ServiceError("late", code=408), 504),
        (ServiceError("many", code=429), 429),
        (ServiceError("boom", code=500), 500),
        (ServiceError("own", code=599), 502),
        (ServiceError("no code"), 500),
        (ServiceError("ends", code=503), 503),
        (NoResponders("nobody"), 503),
        (Unconfirmed("no word"), 504),
    ],
)
def test_each_error_of_a_request_has_its_status(error: Exception, code: int) -> None:
    found = relayed(error)
    assert found is not None
    assert found.code == code
    assert found.text == str(error) or code in (429, 500, 502, 503, 504)
    assert (found.after > 0) == (code in (429, 503))
    assert responded(Failed(error)) == found


def test_a_body_that_the_handler_wrote_wrong_is_no_fault_of_the_clients() -> None:
    error = ServiceError("expected int", code=400)
    assert relayed(error) == Answered(400, "expected int")
    assert responded(Failed(error)).code == 500
    assert relayed(ValueError()) is None


@reply("stock.{item}")
async def stock(item: str, body: int = 0) -> int:
    match item:
        case "reject":
            raise Reject("no such item")
        case "retry":
            raise Retry("closed")
        case "boom":
            raise RuntimeError("a secret of the inside")
    return 7


@reply("slow.stock", timeout=0.3)
async def slow_stock() -> None:
    await asyncio.sleep(30)


@route("GET", "/stock/{item}")
async def asked(item: str, ctx: Context) -> Any:
    return await ctx.request(f"stock.{item}", "no int" if item == "wrong" else 0, returns=int)


@route("GET", "/slow")
async def slow(ctx: Context) -> Any:
    return await ctx.request("slow.stock", None, returns=int, timeout=60.0)


@route("GET", "/nobody")
async def nobody(ctx: Context) -> Any:
    return await ctx.request("nobody.here", None, returns=int, timeout=2.0)


@route("GET", "/group")
async def group(ctx: Context) -> Any:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ctx.request("stock.reject", 0, returns=int))


@pytest.mark.server
async def test_a_client_gets_what_the_function_behind_has_answered(serving: Serving) -> None:
    async with serving(stock, slow_stock, asked, slow, nobody, group) as (_, client):
        got = {}
        for path in (
            "stock/tea",
            "stock/reject",
            "stock/retry",
            "stock/boom",
            "stock/wrong",
            "slow",
            "nobody",
            "group",
        ):
            answer = await client.get(f"/{path}")
            got[path] = (answer.status_code, answer.headers.get("retry-after"))
            assert "secret" not in answer.text
            if path in ("stock/reject", "group"):
                assert answer.json()["detail"] == "no such item"
        assert got == {
            "stock/tea": (200, None), "stock/reject": (422, None), "stock/retry": (503, "1"), "stock/boom": (500, None),
            "stock/wrong": (500, None), "slow": (504, None), "nobody": (503, "1"), "group": (422, None),
        }  # fmt: skip
