"""What `--health` serves to an orchestrator and to Prometheus."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import to_thread

from runner.engine.health import Health
from runner.engine.stats import Stats
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_a_process_tells_whether_it_lives_is_ready_and_what_it_has_done(
    nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]
) -> None:
    shop = Shop(js, nats_server.url, make_project)
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy.fixed(0, attempts=2))
        async def charge(order: Order, ctx: Context) -> None:
            if order.id == 1 and ctx.attempt == 1:
                raise ValueError("not yet")
            if order.id == 2:
                raise Reject("no")
    """)
    port = free_port()
    await shop.running("charge", "--health", f"127.0.0.1:{port}")
    await shop.order(1, 2, 3)
    await shop.settled("charge")
    assert await asked(port, "/livez") == (200, "ok\n")
    assert await asked(port, "/readyz") == (200, "ok\n")
    assert (await asked(port, "/other"))[0] == 404
    _, metrics = await asked(port, "/metrics")
    for outcome, count in (("ack", 2), ("retry", 1), ("rejected", 1)):
        assert f'jetrunner_messages_total{{function="charge",outcome="{outcome}"}} {count}\n' in metrics
    assert 'jetrunner_duration_seconds_count{function="charge"} 4\n' in metrics
    await to_thread.run_sync(nats_server.stop)
    await eventually(lambda: _says(port, "/readyz", (503, "not connected to NATS\n")))
    assert await asked(port, "/livez") == (200, "ok\n")


async def test_counters_lose_no_digit() -> None:
    stats = Stats()
    stats.acked = 123_456_789
    function: Any = SimpleNamespace(
        binding=SimpleNamespace(function="charge"),
        pipeline=SimpleNamespace(stats=stats),
        unsettled=0,
        info={"num_pending": 987_654_321},
    )
    metrics = Health([function], lambda: "").metrics()
    assert 'outcome="ack"} 123456789\n' in metrics
    assert 'jetrunner_pending{function="charge"} 987654321\n' in metrics


async def asked(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await to_thread.run_sync(get)


async def _says(port: int, path: str, wanted: tuple[int, str]) -> bool:
    return await asked(port, path) == wanted
