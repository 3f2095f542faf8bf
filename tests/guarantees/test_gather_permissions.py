"""A project that splits and joins runs with what `runner permissions` prints, and nothing is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.support.forked import Forks
from tests.support.jetstream import RawJetStream
from tests.support.permitted import Life, printed, users
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FUNCTIONS = """
from collections.abc import AsyncIterator
from pathlib import Path

from runner import Context, Reject, Retry, consume, gather

@consume("orders.{number}", output="lines.{number}")
async def split(order: dict) -> AsyncIterator[int]:
    for line in range(order["lines"]):
        yield line

@consume("lines.{number}", output="priced.{number}")
async def price(line: int, number: str) -> int | None:
    return None if number == "drop" and line else line

@gather("priced.{number}", output="totals.{number}", expires=6.0)
async def total(lines: list[int], number: str, ctx: Context) -> list[int]:
    if ctx.attempt == 1:
        raise Retry("once more", after=0.01)
    if number == "refused" and not Path("allowed").exists():
        raise Reject("not yet")
    return lines
"""
STREAMS = {
    "orders": 'name = "ORDERS"\nsubjects = ["orders.*", "lines.*", "priced.*"]\n',
    "totals": 'name = "TOTALS"\nsubjects = ["totals.*"]\n',
}


@pytest.fixture(autouse=True)
def _untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")


async def test_events_are_joined_expire_are_given_up_and_redriven_with_what_is_printed(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer], forks: Forks
) -> None:
    project = make_project(functions={"shop": FUNCTIONS}, streams=STREAMS)
    server = make_server("accounts {\n" + users("WHOLE", printed(project, {"publish": ["orders.*"]})) + "}\n")
    life = Life(forks, server, "WHOLE", project, patience=5.0)
    async with RawJetStream.connect(life.url("all")) as raw:

        async def joined(count: int) -> bool:
            return await raw.count("TOTALS") == count

        async def dead(count: int) -> bool:
            return await raw.count("DEADLETTERS") == count

        try:
            await life.do("operate", "apply")
            await life.instance()
            await life.publish(("orders.whole", {"lines": 3}), ("orders.none", {"lines": 0}))
            await life.until("both are joined", partial(joined, 2))
            await life.publish(("orders.drop", {"lines": 2}))
            await life.until("its time is over", partial(joined, 3))
            await life.publish(("orders.refused", {"lines": 2}))
            await life.until("it is given up", partial(dead, 1))
            (project.root / "allowed").touch()
            await life.do("operate", "deadletter", "redrive", "--all")
            await life.until("it is joined", partial(joined, 4))
            await raw.api("STREAM.DELETE.GATHER")
            await life.publish(("orders.again", {"lines": 2}))
            await life.until("it is joined in a stream that is made anew", partial(joined, 5))
            await life.do("operate", "status")
            for subject in ("again", "expire"):
                await life.until(
                    f"{subject}: nothing is left", partial(_none, raw, f"$JETRUNNER.{subject}.>"), 12.0
                )
        finally:
            life.end()
        found = {each.subject: each.json() for each in await raw.messages("TOTALS")}
        assert found == {
            "totals.whole": [0, 1, 2],
            "totals.none": [],
            "totals.drop": [0],
            "totals.refused": [0, 1],
            "totals.again": [0, 1],
        }
    refused = [line for line in server.log.read_text(errors="replace").splitlines() if "Violation" in line]
    assert refused == []


async def _none(raw: RawJetStream, subject: str) -> bool:
    info = await raw.stream("JETRUNNER", subjects_filter=subject)
    return not info["state"].get("subjects")
