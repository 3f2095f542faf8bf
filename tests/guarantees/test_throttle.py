"""An instance whose function fails far more often than elsewhere takes fewer messages, so that those that can do the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.health import asked as health
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    @consume("orders.{id}", retry=RetryPolicy.fixed(0.1, attempts=1_000), concurrency=4)
    async def charge(order: Order) -> None:
        if "BROKEN" in os.environ and os.path.exists(os.environ["BROKEN"]):
            note("broken", id=order.id)
            raise OSError("disk full")
        await asyncio.sleep(0.02)
        note("done", id=order.id, name=os.environ["NAME"])
"""
ORDERED = CHARGE.replace("concurrency=4", 'ordered_by="id"')


class Fleet:
    """Three instances, of which one fails as long as a file is there."""

    def __init__(self, shop: Shop, broken: Path, port: int) -> None:
        self.shop = shop
        self.broken = broken
        self.port = port
        self.next = 0

    async def start(self) -> RunnerProcess:
        """The broken one, once all pull."""
        self.broken.write_text("")
        broken = self.shop.run("--health", f"127.0.0.1:{self.port}", NAME="c", BROKEN=str(self.broken))
        await broken.seen("ready: charge")
        for name in ("a", "b"):
            await self.shop.run(NAME=name).seen("ready: charge")
        return broken

    async def order(self, count: int) -> None:
        """So many more orders."""
        await self.shop.order(*range(self.next, self.next + count))
        self.next += count

    @property
    def failed(self) -> int:
        """Attempts that have failed."""
        return len(self.shop.notes("broken"))

    async def throttled(self) -> int:
        """What the metric says."""
        told = (await health(self.port, "/metrics"))[1]
        (line,) = [each for each in told.splitlines() if each.startswith("jetrunner_throttled{")]
        return int(float(line.rpartition(" ")[2]))


@pytest.fixture
async def fleet(
    js: RawJetStream, nats_server: NatsServer, make_project: Callable[..., Project], tmp_path: Path
) -> Fleet:
    return Fleet(Shop(js, nats_server.url, make_project), tmp_path / "broken", free_port())


async def test_an_instance_that_fails_pulls_less_and_comes_back_once_it_is_well(fleet: Fleet) -> None:
    await fleet.shop.open(CHARGE)
    broken = await fleet.start()
    await fleet.order(600)
    await broken.seen("takes fewer messages")
    await eventually(fleet.throttled)
    before, first = fleet.failed, fleet.next
    assert before >= 50
    await fleet.order(600)

    def standing() -> list[str]:
        return list(fleet.shop.project.json("status")["functions"][0]["standing"])

    await eventually(lambda: any("of its attempts failed, 0% elsewhere" in each for each in standing()))
    await fleet.shop.settled("charge", within=120)
    trials = fleet.failed - before
    assert trials < 200, (
        "some that were asked for before, and ten in each trial: without it there were thousands"
    )
    done = Counter(note["id"] for note in fleet.shop.notes("done"))
    assert set(done) == set(range(fleet.next)), "the others have done the work"
    fleet.broken.unlink()
    while await fleet.throttled():
        await fleet.order(40)
        await fleet.shop.settled("charge")
    await broken.seen("takes all messages again")
    assert first < fleet.next
    await fleet.order(100)
    await fleet.shop.settled("charge")
    assert any(note["name"] == "c" for note in fleet.shop.notes("done"))


async def test_where_all_fail_none_is_throttled(fleet: Fleet) -> None:
    await fleet.shop.open(CHARGE)
    fleet.broken.write_text("")
    processes = [fleet.shop.run(NAME=name, BROKEN=str(fleet.broken)) for name in ("a", "b", "c")]
    for process in processes:
        await process.seen("ready: charge")
    await fleet.order(100)
    await eventually(lambda: fleet.failed > 1_000)
    assert not [each for each in processes if "takes fewer messages" in each.output]


async def test_an_owner_of_shards_is_never_throttled(fleet: Fleet) -> None:
    await fleet.shop.open(ORDERED)
    broken = await fleet.start()
    await fleet.order(100)
    await eventually(lambda: fleet.failed > 500, within=60)
    assert "takes fewer messages" not in broken.output
    fleet.broken.unlink()
    await eventually(lambda: len(fleet.shop.notes("done")) >= 100, within=60)
