"""What `runner status` and `/metrics` tell of instances that are asked: real ones, of which one fails and one is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.asker import asking
from tests.support.eventually import eventually
from tests.support.health import asked as health
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHOP = """
    import asyncio, os
    from runner import Context, reply

    @reply("quotes.{customer}", idempotent=True)
    async def quote(customer: str) -> str:
        if "BROKEN" in os.environ:
            raise OSError("no route")
        await asyncio.sleep(float(os.environ.get("SECONDS", "0.002")))
        return customer

    @reply("offers.{customer}", concurrency=8)
    async def offer(customer: str, ctx: Context) -> str:
        return await ctx.request(f"quotes.{customer}", None, policy="round_robin")
"""


async def test_an_instance_that_fails_and_one_that_is_slow_are_told_of(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"shop": SHOP}, nats=nats_server.url)
    port = free_port()
    for environment in ({"BROKEN": "1"}, {"SECONDS": "0.2"}, {}, {}, {}):
        await project.start("run", "--only", "quote", "--weight", "2", **environment).seen("ready: ")
    await project.start("run", "--only", "offer", "--health", f"127.0.0.1:{port}").seen("ready: ")
    nothing = (await health(port, "/metrics"))[1]
    assert "jetrunner_asked" not in nothing
    async with asking(nats_server.url) as asker:

        async def two_are_left_out() -> bool:
            await asyncio.gather(*(asker.ask(f"offers.{number}", within=60) for number in range(50)))
            told = (await health(port, "/metrics"))[1]
            states = [
                number(told, f'jetrunner_asked_instances{{{LABEL},state="{state}"}}') for state in STATES
            ]
            assert sum(states) == 5
            assert ejections(told, "latency") >= 1
            assert ejections(told, *FAILING) >= 1
            are_told_of(told, project.json("status"), project.runner("status").stdout)
            return True

        await eventually(two_are_left_out, within=120)  # another may be slow for a moment, too


def are_told_of(told: str, status: Any, text: str) -> None:
    """Of five instances one is slow, and one fails."""
    weights = [number(told, f'jetrunner_asked_weight{{{LABEL},state="{state}"}}') for state in STATES]
    assert sum(weights) == 10
    assert number(told, f"jetrunner_asked_outstanding{{{LABEL}}}") == 0
    assert number(told, 'jetrunner_asked_latency_seconds{function="quote",of="most",project="shop"}') > 0.19
    assert (
        0
        < number(told, 'jetrunner_asked_latency_seconds{function="quote",of="median",project="shop"}')
        < 0.19
    )
    (function,) = status["asked"]
    assert (function["project"], function["function"], function["subject"]) == ("shop", "quote", "quotes.*")
    askers: list[dict[str, Any]] = [each["askers"][0] for each in function["instances"]]
    assert len(askers) == 5
    (slow,) = [each for each in askers if each["latency"] > 0.19]
    (failing,) = [each for each in askers if each["success"] < 0.95]
    for each in (slow, failing):
        assert each["state"] in {"ejected", "trial"}
        assert each["reason"]
    assert {each["weight"] for each in askers} == {2.0}
    assert "ASKED" in text
    assert "ejected (" in text or "trial (" in text


LABEL = 'function="quote",project="shop"'
FAILING = ("consecutive failures", "success rate")
STATES = ("healthy", "resting", "ejected", "trial")


def number(told: str, series: str) -> float:
    """The value of a series."""
    return next(float(line.rpartition(" ")[2]) for line in told.splitlines() if line.startswith(series))


def ejections(told: str, *reasons: str) -> float:
    """How often instances were left out for these reasons."""
    return sum(
        number(told, f'jetrunner_asked_ejections_total{{{LABEL},reason="{reason}"}}') for reason in reasons
    )
