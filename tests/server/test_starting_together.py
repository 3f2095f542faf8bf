"""Instances that start at the same time on servers that know nothing of the project yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import Settings
from runner.errors import Incomplete
from runner.jetstream.connection import connect
from runner.jetstream.inventory import real_streams
from runner.jetstream.topology import Topology
from tests.support.cluster import Cluster, apart
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import streams
from tests.support.order import source
from tests.support.project import Project

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_instances_started_together_on_a_cluster_all_get_ready(
    make_project: Callable[..., Project], cluster: Cluster
) -> None:
    """While one of them makes a stream, the server's list counts it and leaves it out."""
    project = make_project(functions={"ledger": source()}, streams=streams(4, replicas=3), nats=cluster.url)
    await project.applied()
    instances = [project.start("run") for _ in range(3)]
    for instance in instances:
        await instance.seen("ready: ")
    for instance in instances:
        instance.terminate()
    assert [await instance.ended(within=60) for instance in instances] == [0, 0, 0]


@pytest.mark.parametrize("left", ["follower", "leader"])
async def test_an_instance_that_starts_while_jetstream_has_no_leader_waits_for_one(
    make_project: Callable[..., Project], cluster: Cluster, left: str
) -> None:
    """A leader that has just lost the others still answers, with a list of the streams that it leads itself."""
    project = make_project(functions={"ledger": source()}, streams=streams(4, replicas=3), nats=cluster.url)
    await project.applied()
    leader = cluster.meta_leader()
    stays = leader if left == "leader" else next(each for each in cluster.servers if each is not leader)
    lost = [server for server in cluster.servers if server is not stays]
    for server in lost:
        server.kill()
    instance = project.start("run", NATS_URL=stays.url, JETRUNNER_LEADER_TIMEOUT="100s")
    await instance.seen(
        r"waiting: the cluster has no leader|(JetStream|the list of streams|our own streams): no success for",
    )
    for server in lost:
        server.start()
    await instance.seen("ready: ")
    instance.terminate()
    assert await instance.ended(within=60) == 0


async def test_what_hangs_on_a_stream_that_the_server_cannot_tell_of_waits_and_the_rest_goes_on(
    make_project: Callable[..., Project], cluster: Cluster
) -> None:
    """A stream with one replica, whose server is away, is missing in the list for as long as that lasts."""
    project = make_project(functions={"ledger": source()}, streams=streams(4, replicas=3), nats=cluster.url)
    await project.applied()
    # Our own streams are there before a server is away: one that is made then may find too few servers for its replicas.
    before = project.start("run")
    await before.seen("ready: ")
    before.terminate()
    assert await before.ended(within=60) == 0
    async with RawJetStream.connect(cluster.url) as js:
        await js.create("FOREIGN", ["foreign.>"])
    away = await cluster.leader("FOREIGN")
    away.kill()
    there = next(server for server in cluster.servers if server is not away)
    async with connect(Settings(nats_url=there.url), patience=60) as connection:
        topology = Topology(connection)

        async def alone_is_missing() -> bool:
            await (
                topology.load()
            )  # what was led by the server that is away is missing, too, until others lead it
            return topology.lacking == ("FOREIGN",)

        await eventually(alone_is_missing)
        assert await topology.find("ledger.a.posted") == "LEDGER"
        with pytest.raises(Incomplete, match="FOREIGN"):
            await topology.find("foreign.a")
        with pytest.raises(Incomplete, match="FOREIGN"):
            await real_streams(connection, patience=0)
    instance = project.start("run", NATS_URL=there.url)
    await instance.seen("ready: ")
    instance.terminate()
    assert await instance.ended(within=60) == 0


CHARGE = """
    from journal import note
    from runner import consume

    @consume("orders.*")
    async def charge(order: dict) -> None:
        note("run", id=order["id"])
"""


async def test_an_instance_that_starts_while_the_only_server_of_our_streams_restarts_waits_for_it(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    """A server that has ended in good order is known to be away: what it alone holds is `offline` at once."""
    async with apart(tmp_path) as (cluster, _):
        stays, away, _ = cluster.servers
        away.stop()
        instance = make_project(functions={"orders": CHARGE}).start(
            "run", NATS_URL=stays.url, JETRUNNER_LEADER_TIMEOUT="100s"
        )
        await instance.seen("our own streams: no success for .*: stream JETRUNNER .*offline")
        away.start()
        await instance.seen("ready: ")
