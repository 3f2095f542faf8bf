"""Mistakes that a type checker finds: every line marked `E:` must be an error, and no other."""

from __future__ import annotations

import runner
from runner import Context, RetryPolicy, around, consume, lifespan, testing


@consume("orders.{customer}")
async def charge(order: bytes, customer: str, ctx: Context) -> int:
    ctx.attempt.append(1)  # E: attr-defined
    ctx.publish()  # E: call-arg
    await ctx.publish("a", 1, delay="1s")  # E: arg-type
    price: str = await ctx.request("quotes", 1, returns=int)  # E: arg-type
    return len(price)


@consume("banks.*")
async def look(body: bytes, ctx: Context[dict[str, str]]) -> int:
    ctx.state.append("x")  # E: attr-defined
    return ctx.state["bank"]  # E: return-value


consume("orders", timeout="30s")  # E: arg-type
consume("orders", deliver="last")  # E: arg-type
consume("orders", "payments")  # E: call-arg
consume("orders", colour="red")  # E: call-arg
consume(charge)  # E: arg-type
RetryPolicy(jitter="some")  # E: arg-type
RetryPolicy(retry_on=ValueError)  # E: arg-type
lifespan(charge)  # E: type-var
around(charge)  # E: type-var
around(scope="all")  # E: call-overload
around(lambda ctx, call: 1)  # E: type-var
testing.context(attempt="2")  # E: arg-type
runner.publish("a", 1)  # E: attr-defined


async def call() -> str:
    await charge(b"", 5, testing.context())  # E: arg-type
    return await charge(b"", "c1", testing.context())  # E: return-value


async def call_with_another_state() -> None:
    await look(b"", testing.context(state=1))  # E: arg-type
