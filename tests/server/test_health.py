"""What `--health` serves to an orchestrator and to Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import to_thread

from runner.pipeline.stats import Stats
from runner.process.health import Health
from tests.support.eventually import eventually
from tests.support.health import asked
from tests.support.health import number as told_of
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
        assert f'jetrunner_messages_total{{function="charge",outcome="{outcome}"}} {count}.0\n' in metrics
    assert 'jetrunner_duration_seconds_count{function="charge"} 4.0\n' in metrics
    await to_thread.run_sync(nats_server.stop)
    await eventually(lambda: _says(port, "/readyz", (503, "not connected to NATS\n")))
    assert await asked(port, "/livez") == (200, "ok\n")


async def test_an_ordered_function_tells_of_the_shards_that_are_here_and_of_what_waits_in_them(
    nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]
) -> None:
    """Both handlers are stuck: what comes later is seen though nothing ends here."""
    stuck = """
        import asyncio
        from runner import consume

        @consume("{subject}", concurrency=1{ordered})
        async def {name}() -> None:
            await asyncio.Event().wait()
    """
    project = make_project(
        functions={
            "post": stuck.format(subject="ledger.{account}", name="post", ordered=', ordered_by="account"'),
            "audit": stuck.format(subject="audit.*", name="audit", ordered=""),
        },
        streams={
            "ledger": 'name = "LEDGER"\nsubjects = ["ledger.{account}"]\n[shards]\ncount = 2\nby = ["account"]',
            "audit": 'name = "AUDIT"\nsubjects = ["audit.*"]',
        },
        nats=nats_server.url,
    )
    assert (await to_thread.run_sync(project.runner, "apply")).code == 0
    port = free_port()
    project.start("run", "--health", f"127.0.0.1:{port}", "--drain-timeout", "1")

    async def told(line: str) -> bool:
        return f"\n{line}\n" in (await asked(port, "/metrics"))[1]

    await eventually(lambda: told('jetrunner_shards{function="post"} 2.0'))
    assert 'jetrunner_shards{function="audit"' not in (await asked(port, "/metrics"))[1]
    for number in range(100):
        await js.publish(f"ledger.a{number}", {"number": number})
        await js.publish("audit.a", {"number": number})
    await eventually(lambda: told('jetrunner_pending{function="audit"} 99.0'))
    await eventually(lambda: told('jetrunner_in_flight{function="post"} 32.0'))
    await eventually(lambda: told('jetrunner_pending{function="post"} 68.0'))
    for number in range(50):
        await js.publish(f"ledger.b{number}", {"number": number})
    await eventually(lambda: told('jetrunner_pending{function="post"} 118.0'))


async def test_counters_lose_no_digit() -> None:
    stats = Stats()
    stats.acked = 123_456_789
    function: Any = SimpleNamespace(
        binding=SimpleNamespace(function="charge", concurrency=64),
        stats=stats,
        unsettled=0,
        busy=0,
        joins=None,
        shards=None,
        intake=SimpleNamespace(pending=987_654_321, unacked=0, lag=0.0),
        throttled=False,
        unkept=0,
    )
    metrics = Health([function], lambda: "").metrics()[1].decode()
    assert told_of(metrics, 'jetrunner_messages_total{function="charge",outcome="ack"}') == 123_456_789
    assert told_of(metrics, 'jetrunner_pending{function="charge"}') == 987_654_321


async def _says(port: int, path: str, wanted: tuple[int, str]) -> bool:
    return await asked(port, path) == wanted
