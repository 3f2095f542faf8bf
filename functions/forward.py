"""Post each alert to an HTTP endpoint that is not always well."""

from __future__ import annotations

import httpx
import msgspec

from functions._flight import Alert
from runner import Context, Reject, Retry, RetryPolicy, consume


@consume("alerts.{origin}", retry=RetryPolicy.random(0.2, 1.0, attempts=12), concurrency=16, timeout=10.0)
async def forward(alert: Alert, ctx: Context) -> None:
    """The endpoint may see an alert twice, after a crash between its answer and our ack: hence the key."""
    try:
        answer = await ctx.state.http.post(
            ctx.state.alerts_url,
            content=msgspec.json.encode(alert),
            headers={"Content-Type": "application/json", "Idempotency-Key": ctx.message_id},
        )
    except httpx.TransportError as error:
        raise Retry(f"no answer: {error!r}") from error
    if answer.status_code >= 500:
        raise Retry(f"the endpoint answered {answer.status_code}")
    if answer.status_code >= 400:
        raise Reject(f"the endpoint refused it: {answer.status_code}")
