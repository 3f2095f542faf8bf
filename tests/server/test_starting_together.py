"""Instances that start at the same time on servers that know nothing of the project yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.cluster import Cluster
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
        await instance.seen("ready: ", within=30)
    for instance in instances:
        instance.terminate()
    assert [await instance.ended(within=40) for instance in instances] == [0, 0, 0]


async def test_an_instance_that_starts_while_jetstream_has_no_leader_waits_for_one(
    make_project: Callable[..., Project], cluster: Cluster
) -> None:
    project = make_project(functions={"ledger": source()}, streams=streams(4, replicas=3), nats=cluster.url)
    await project.applied()
    for server in cluster.servers[1:]:
        server.kill()
    instance = project.start("run", NATS_URL=cluster.servers[0].url)
    await instance.seen("JetStream waits since", within=20)
    for server in cluster.servers[1:]:
        server.start()
    await instance.seen("ready: ", within=40)
    instance.terminate()
    assert await instance.ended(within=40) == 0
