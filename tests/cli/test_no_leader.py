"""A cluster that has no leader is waited for, and told from a stream that is not there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WORK = """
    from journal import note
    from runner import consume

    @consume("orders.*")
    async def work(order: dict) -> None:
        note("run")
"""
STREAM = 'name = "ORDERS"\nsubjects = ["orders.*"]\nnum_replicas = 3\n'


class World:
    """A project on the one server of three that is left."""

    def __init__(self, cluster: Cluster, project: Project, left: NatsServer) -> None:
        self.cluster = cluster
        self.project = project
        self.left = left

    def back(self) -> None:
        """Start the other two."""
        for server in self.cluster.servers:
            if server is not self.left:
                server.start()


@pytest.fixture
async def world(cluster: Cluster, make_project: Callable[..., Project]) -> World:
    return await left_alone(cluster, make_project, leads=False)


async def left_alone(cluster: Cluster, make_project: Callable[..., Project], *, leads: bool) -> World:
    """Kill two servers of three; whether the one that is left was the leader, and takes itself for it for a while."""
    await cluster.ready()
    async with RawJetStream.connect(cluster.url) as js:
        await js.create("ORDERS", ["orders.*"], num_replicas=3)
    leader = cluster.meta_leader()
    left = next(server for server in cluster.servers if (server is leader) == leads)
    project = make_project(functions={"work": WORK}, nats=left.url)
    project.environment["NATS_URL"] = left.url
    project.environment["JETRUNNER_LEADER_TIMEOUT"] = "100s"  # an election takes its time on a busy machine
    project.stream("orders", STREAM)
    for server in cluster.servers:
        if server is not left:
            server.kill()
    return World(cluster, project, left)


@pytest.mark.parametrize(
    "command",
    [
        ("publish", "orders.1", "{}"),
        ("plan",),
        ("apply",),
        ("status",),
        ("deadletter", "redrive", "--all"),
        ("shard", "resize", "ORDERS", "4"),
    ],
    ids=lambda words: words[0],
)
async def test_a_command_waits_for_a_leader_says_so_at_once_and_goes_on(
    world: World, command: tuple[str, ...]
) -> None:
    began = time.monotonic()
    process = world.project.start(*command)
    await process.seen("waiting: the cluster has no leader that answers; at most 1m40s")
    assert time.monotonic() - began < 90
    world.back()
    code = await process.ended(within=100)
    assert "no stream captures" not in process.output
    assert "no leader that answers:" not in process.output
    assert code == 0 or command[0] in ("deadletter", "shard"), process.output
    if command[0] == "publish":
        assert "ORDERS:1" in process.output


async def test_a_command_that_finds_no_leader_in_its_time_says_that(world: World) -> None:
    process = world.project.start("publish", "orders.1", "{}", JETRUNNER_LEADER_TIMEOUT="2s")
    assert await process.ended(within=60) == 1
    assert "error: the cluster has no leader that answers: JetStream did not answer for 2s" in process.output
    assert "hint: start the other servers" in process.output


async def test_a_request_needs_no_leader_and_waits_for_none(world: World) -> None:
    process = world.project.start("request", "nobody.there")
    assert await process.ended(within=60) == 1
    assert "nobody answers on nobody.there" in process.output
    assert "waiting" not in process.output


async def test_a_run_waits_for_a_leader_and_then_runs(world: World) -> None:
    process = world.project.start("run")
    await process.seen("waiting: the cluster has no leader that answers")
    world.back()
    await process.seen("ready: work", within=60)
    async with RawJetStream.connect(world.cluster.url) as js:
        await js.publish("orders.1", {})
    assert process.running


async def test_a_stream_whose_servers_are_away_is_not_taken_for_none(
    cluster: Cluster, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    await cluster.ready()
    async with RawJetStream.connect(cluster.url) as js:
        await js.create("ORDERS", ["orders.*"], num_replicas=1)
    holder = await cluster.leader("ORDERS")
    other = next(server for server in cluster.servers if server is not holder)
    project = make_project(functions={"work": WORK}, nats=other.url)
    holder.kill()
    process = project.start("publish", "orders.1", "{}", NATS_URL=other.url, JETRUNNER_LEADER_TIMEOUT="100s")
    await process.seen("waiting: the (stream ORDERS|cluster) has no leader")
    holder.start()
    assert await process.ended(within=60) == 0, process.output
    absent = project.start("publish", "nowhere.1", "{}", NATS_URL=other.url)
    assert await absent.ended(within=60) == 1
    assert "no stream captures nowhere.1" in absent.output


@pytest.mark.parametrize("command", [("publish", "orders.1", "{}"), ("plan",), ("apply",), ("status",)])
async def test_a_leader_that_has_just_lost_the_others_misleads_no_command(
    cluster: Cluster, make_project: Callable[..., Project], command: tuple[str, ...]
) -> None:
    world = await left_alone(cluster, make_project, leads=True)
    process = world.project.start(*command)
    world.back()
    code = await process.ended(within=60)
    assert "no stream captures" not in process.output
    if command[0] == "publish" and code:  # it had the message, and could not tell what becomes of it
        assert "hint: it may be stored" in process.output
    else:
        assert code == 0, process.output
