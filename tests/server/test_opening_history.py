"""What is open of a function's shards, where the stream's leader does not know of all that was confirmed."""

from __future__ import annotations

import anyio
import pytest

from runner.cluster.rollover import OrderedReader, Rollover
from runner.config import Settings
from runner.core.generation import OpenGeneration
from runner.core.history import Identity
from runner.errors import Unconfirmed
from runner.jetstream import ownstreams
from runner.jetstream.connection import connect
from runner.runtime.histories import Histories
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream

pytestmark = [pytest.mark.server, pytest.mark.anyio]

READER = OrderedReader("post", "LEDGER", "ledger.*")


def held(_owner: str, _revision: int) -> bool:
    return False


@pytest.mark.parametrize("lacks", ["messages", "the stream as it is"])
async def test_what_is_open_stays_until_most_servers_have_answered_the_leader_that_lacks_it(
    cluster: Cluster, lacks: str
) -> None:
    """A leader that was deposed, or elected a moment ago, does not know of all that stands in the open generation."""
    async with (
        RawJetStream.connect(cluster.url) as js,
        connect(Settings(nats_url=cluster.url)) as connection,
        anyio.create_task_group() as tasks,
    ):
        await ownstreams.ensure(connection, ownstreams.BUCKET_STREAM)
        created: str = (await js.create("LEDGER", ["ledger.*"], num_replicas=3))["created"]
        for number in range(5):
            await js.publish(f"ledger.{number}")
        histories = Histories(connection, tasks)
        last = await histories.of("LEDGER").check()
        if lacks != "messages":
            created = created.replace(created[:4], "2999")
        turnover = Rollover(connection, "shop", histories.of)
        newest = Identity(created, 9, last.last_ns + 1)
        standing = OpenGeneration("LEDGER", created, "ledger.*", 0, 1, (), through=9, newest=newest)
        assert await turnover.open_generations.swap("post", standing, 0)
        began = anyio.current_time()
        with pytest.raises(Unconfirmed):
            await turnover.step(READER, held)
        assert (await turnover.open_generations.read("post"))[0] == standing
        current = await eventually(lambda: turnover.step(READER, held))
        assert anyio.current_time() - began > 2.0
        assert current is not None
        assert current.through <= 5
        tasks.cancel_scope.cancel()
