"""A function gets another durable, another name, or keeps order from now on, and back: it goes on where it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import IMPORTS, Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]


def version(label: str, *options: str, function: str = "work") -> str:
    told = "".join(f", {option}" for option in options)
    return f"""
        @consume("orders.{{id}}"{told})
        async def {function}(order: Order, ctx: Context) -> None:
            note("run", id=order.id, version="{label}")
    """


PLAIN = version("plain")
ORDERED = version("ordered", 'ordered_by="id"')
NAMED = version("named", 'durable="chosen"')
RENAMED = version("renamed", 'renamed_from="work"', function="toil")


class Steps:
    """Publishes, runs a version until all is done, and stops it."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.count = 0

    async def publish(self, count: int) -> None:
        await self.shop.order(*range(self.count, self.count + count))
        self.count += count

    async def start(self, source: str) -> RunnerProcess:
        self.shop.write(source)
        process = self.shop.run()
        await process.seen("ready: ")
        return process

    async def step(self, source: str) -> None:
        await self.publish(10)
        process = await self.start(source)
        await self.publish(10)
        await self.done()
        process.terminate()
        await process.ended()

    async def done(self) -> None:
        await eventually(lambda: len(self.runs()) == self.count)

    def runs(self) -> Counter[int]:
        return Counter(each["id"] for each in self.shop.notes("run"))

    def once(self) -> None:
        assert set(self.runs()) == set(range(self.count))
        assert set(self.runs().values()) == {1}, self.runs()


@pytest.fixture
async def steps(shop: Shop) -> Steps:
    await shop.open(PLAIN)
    return Steps(shop)


@pytest.mark.parametrize(
    "versions",
    [
        (PLAIN, NAMED, PLAIN, NAMED),
        (PLAIN, ORDERED, PLAIN, ORDERED),
        (NAMED, ORDERED, NAMED),
        (ORDERED, PLAIN, ORDERED),
        (PLAIN, RENAMED, PLAIN, RENAMED),
    ],
    ids=["durable", "order", "named and ordered", "ordered first", "name"],
)
async def test_nothing_runs_again_and_nothing_is_passed_over(steps: Steps, versions: tuple[str, ...]) -> None:
    for source in versions:
        await steps.step(source)
    steps.once()
    names = await steps.shop.js.consumers("ORDERS")
    assert len(names) == 1, names


@pytest.mark.parametrize(
    ("old", "new"),
    [(PLAIN, NAMED), (PLAIN, ORDERED), (ORDERED, PLAIN)],
    ids=["durable", "order", "no order"],
)
async def test_the_new_version_begins_once_the_last_old_one_has_gone(
    steps: Steps, old: str, new: str
) -> None:
    first = await steps.start(old)
    await steps.publish(10)
    await steps.done()
    second = await steps.start(new)
    await second.seen("takes no messages now")
    await steps.publish(10)
    await steps.done()
    steps.once()
    first.terminate()
    await first.ended()
    await steps.publish(10)
    await steps.done()
    steps.once()
    versions = {each["version"] for each in steps.shop.notes("run")[-10:]}
    assert versions.isdisjoint(each["version"] for each in steps.shop.notes("run")[:20])


@pytest.mark.parametrize("old", [PLAIN, NAMED], ids=["its durable", "another durable"])
async def test_an_instance_that_is_held_up_is_still_there_for_one_that_keeps_order(
    steps: Steps, old: str
) -> None:
    """It does not say in time what it reads; its pull request waits at the server."""
    first = await steps.start(old)
    await steps.publish(5)
    await steps.done()
    first.freeze()
    steps.shop.write(ORDERED)
    second = steps.shop.run()
    await second.seen("takes no messages now: instance that does not answer")
    first.thaw()
    await steps.publish(5)
    await steps.done()
    assert {each["version"] for each in steps.shop.notes("run")} <= {"plain", "named"}
    first.terminate()
    await first.ended()
    await steps.publish(5)
    await steps.done()
    steps.once()


SAME_PLACE = """
    import os, socket, sys

    there = os.getpid

    def pid():
        asks = sys._getframe(1).f_globals.get("__name__", "")
        return 1 if asks in ("runner.process.app", "runner.process.status", "runner.runtime.snapshots") else there()

    os.getpid, socket.gethostname = pid, lambda: "box"
"""


async def test_instances_of_two_containers_with_one_host_name_are_told_apart(
    steps: Steps, tmp_path: Path
) -> None:
    """The first process of each container has the same process id as well."""
    (tmp_path / "sitecustomize.py").write_text(dedent(SAME_PLACE))
    steps.shop.write(PLAIN)
    first = steps.shop.run(PYTHONPATH=str(tmp_path))
    await first.seen("ready: ")
    await steps.publish(5)
    await steps.done()
    steps.shop.write(NAMED)
    second = steps.shop.run(PYTHONPATH=str(tmp_path))
    await second.seen("takes no messages now: instance box-1-")
    await steps.publish(5)
    await steps.done()
    steps.once()
    # One that stands still does not answer in time.
    await eventually(lambda: len({each["instance"] for each in instances(steps.shop)}) == 2)
    first.terminate()
    await first.ended()
    await steps.publish(5)
    await steps.done()
    steps.once()
    assert {each["version"] for each in steps.shop.notes("run")[-5:]} == {"named"}


def instances(shop: Shop) -> list[dict[str, Any]]:
    return list(shop.project.json("status")["instances"])


async def test_old_and_new_instances_of_a_renamed_function_share_its_work(steps: Steps) -> None:
    await steps.start(PLAIN)
    await steps.start(RENAMED)
    await steps.publish(50)
    await steps.done()
    steps.once()
    assert await steps.shop.js.consumers("ORDERS") == ["shop-work"]


async def test_a_renamed_function_has_its_new_name_in_the_commands(steps: Steps) -> None:
    steps.shop.write(RENAMED)
    (listed,) = steps.shop.project.json("function", "list")
    assert (listed["name"], listed["renamed_from"], listed["durable"]) == ("toil", "work", "shop-work")
    process = steps.shop.run("--only", "toil")
    await process.seen("ready: toil")
    twice = PLAIN + RENAMED
    steps.shop.write(twice)
    refused = steps.shop.project.runner("function", "list")
    assert refused.code == 2
    assert "the function 'work' is there already" in refused.stderr


async def test_a_function_that_keeps_no_order_any_more_goes_on_though_its_shards_change(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """Messages stand in the shards of before and in those of now, and none of the latter has been read."""
    stream = 'name = "ORDERS"\nsubjects = ["orders.{id}"]\n[shards]\ncount = 2\nby = ["id"]\n'
    project = make_project(nats=nats_server.url, streams={"orders": stream})
    project.function("shop", IMPORTS + dedent(ORDERED))
    await project.applied()
    process = project.start("run")
    await process.seen("owns 2 of 2 shards")

    async def publish(first: int, last: int) -> None:
        for number in range(first, last):
            await js.publish(f"orders.{number}", {"id": number})

    def ran() -> Counter[int]:
        return Counter(each["id"] for each in project.journal("run"))

    await publish(0, 20)
    await eventually(lambda: len(ran()) == 20)
    process.terminate()
    await process.ended()
    await publish(20, 30)
    resized = project.start("shard", "resize", "ORDERS", "4", "--no-wait")
    assert await resized.ended() == 0, resized.output
    await publish(30, 40)
    project.function("shop", IMPORTS + dedent(PLAIN))
    project.start("run")
    await eventually(lambda: len(ran()) == 40)
    again = [number for number, count in ran().items() if count > 1]
    assert len(again) < 10, again  # what one shard has done behind the last that another has


async def test_a_function_that_loses_its_order_and_its_subject_at_once_is_refused(steps: Steps) -> None:
    await steps.step(ORDERED)
    await steps.shop.js.api(
        "STREAM.UPDATE.ORDERS",
        {**(await steps.shop.js.stream("ORDERS"))["config"], "subjects": ["orders.>", "bills.>"]},
    )
    steps.shop.write(PLAIN.replace("orders.{id}", "bills.{id}"))
    process = steps.shop.run()
    assert await process.ended(within=60) == 2
    assert "nothing tells where both go on" in process.output
    assert "hint: run it without ordered_by= on orders.* first" in process.output
