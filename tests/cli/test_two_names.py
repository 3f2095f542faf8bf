"""A function that was renamed (`renamed_from=`) has two names: commands take either, and show both."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
    from runner import RetryPolicy, consume

    @consume("orders.{id}", ordered_by="id", renamed_from="pack", retry=RetryPolicy(attempts=1), on_exhausted="park")
    async def ship(body: bytes) -> None:
        raise RuntimeError("broken")

    @consume("orders.{id}")
    async def charge(body: bytes) -> None: ...
"""


async def test_commands_take_either_name_and_show_both(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"], allow_direct=True)
    project = make_project(nats=nats_server.url, functions={"shop": SOURCE})
    assert "ship (pack) " in project.runner("function", "list").stdout
    await js.publish("orders.1", b"x")
    for only in ("ship", "pack"):
        process = project.start("run", "--only", only)
        await process.seen(r"ship \(pack\): owns 1 of 1 shard")
        await process.seen(r"ready: ship \(pack\), ")
        await eventually(lambda: js.messages("DEADLETTERS"))
        if only == "pack":  # the status of what runs
            assert "ship (pack) " in project.runner("status").stdout
        process.terminate()
        await process.ended()
    for excluded in ("ship", "pack"):
        process = project.start("run", "--except", excluded)
        await process.seen("ready: charge, ")
        process.terminate()
        await process.ended()
    for name in ("ship", "pack"):
        assert [each["function"] for each in project.json("shard", "list", name)["shards"]] == ["pack"]
        assert [each["function"] for each in project.json("deadletter", "list", "--function", name)] == [
            "pack"
        ]
        assert [each["function"] for each in project.json("parked", "list", "--function", name)] == ["pack"]
        assert (
            "key 1 of pack is parked behind it"
            in project.runner("deadletter", "drop", "--function", name, "-y").stderr
        )
    assert "ORDERS:1 (dead letter 1)" in project.runner("parked", "list").stdout
    unknown = project.runner("run", "--only", "pakc")
    assert (unknown.code, "there is no function 'pakc'" in unknown.stderr) == (2, True)
