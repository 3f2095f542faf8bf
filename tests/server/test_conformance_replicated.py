"""What a takeover and its fences lean on where a stream has three replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.server.conforming import Pulling, answer, answers, batch, code, durable, fence, forge, revision
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FENCE = "_jetrunner.OUT.p.f.1.0"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests of this file: each begins with streams of its own."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        asyncio.run(cluster.ready())
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
async def js3(three: Cluster) -> AsyncIterator[RawJetStream]:
    """A connection to the cluster, with R3 streams `OUT` and `S` that are empty."""
    async with RawJetStream.connect(three.url) as raw:
        own = {"num_replicas": 3, "allow_atomic": True, "duplicate_window": 60 * 10**9}
        await raw.create("OUT", ["out.>", "_jetrunner.OUT.>"], **own)
        await raw.create("S", ["s.>"], **own)
        yield raw
        for stream in ("OUT", "S"):
            await raw.api(f"STREAM.DELETE.{stream}")


async def test_a_second_fenced_output_is_told_to_wait_while_the_first_is_not_stored(
    js3: RawJetStream,
) -> None:
    guard = fence(FENCE, await js3.publish(FENCE))
    found = [code(each) for each in await answers(js3, [("out.a", b"", guard)] * 50)]
    assert found[0] == 0
    assert set(found) == {0, 10164}
    batches = await asyncio.gather(
        *(batch(js3, [("out.a", b"", guard), ("out.a", b"", {})]) for _ in range(20))
    )
    assert {code(each) for each in batches} <= {0, 10164}
    assert code(await answer(js3, "out.a", guard)) == 0  # it passes by itself


async def test_outputs_under_different_fences_do_not_wait_for_each_other(js3: RawJetStream) -> None:
    guards = []
    for shard in range(20):
        subject = f"_jetrunner.OUT.p.f.1.{shard}"
        guards.append(fence(subject, await js3.publish(subject)))
    found = await answers(js3, [("out.a", b"", guard) for guard in guards])
    assert {code(each) for each in found} == {0}


async def test_a_moved_fence_refuses_outputs_and_batches(js3: RawJetStream) -> None:
    guard = fence(FENCE, await js3.publish(FENCE))
    assert (await batch(js3, [("out.a", b"", guard), ("out.a", b"", {})]))["count"] == 2
    await js3.publish(FENCE)
    assert code(await answer(js3, "out.a", guard)) == 10071
    assert code(await batch(js3, [("out.a", b"", guard), ("out.a", b"", {})])) == 10071


async def test_a_duplicate_is_told_before_a_moved_fence(js3: RawJetStream) -> None:
    """Other than on one server: an output that stands is known to stand even to who lost the shard."""
    guard = {"Nats-Msg-Id": "1", **fence(FENCE, await js3.publish(FENCE))}
    assert code(await answer(js3, "out.a", guard)) == 0
    await js3.publish(FENCE)
    again = await answer(js3, "out.a", guard)
    assert (code(again), again.get("duplicate")) == (0, True)
    assert code(await batch(js3, [("out.a", b"", guard), ("out.a", b"", {"Nats-Msg-Id": "2"})])) == 10201


async def test_the_same_id_twice_at_once_is_stored_once_and_the_second_told_to_wait(
    js3: RawJetStream,
) -> None:
    found = await answers(js3, [("out.a", b"", {"Nats-Msg-Id": "1"})] * 20)
    assert {code(each) for each in found} <= {0, 10158}
    assert await js3.count("OUT") == 1


async def test_a_takeover_by_forged_naks_is_at_once_and_in_order(js3: RawJetStream) -> None:
    await durable(js3, "S", "c")
    for number in range(20):
        await js3.publish("s.a", b"%d" % number)
    owner, heir = Pulling(js3, "S", "c"), Pulling(js3, "S", "c")
    await owner.ask(20)
    await eventually(lambda: len(owner.messages) == 20)
    for number in (0, 1, 2, 5, 7):
        await owner.messages[number].ack_sync(60)
    info = await js3.consumer("S", "c")
    assert (info["ack_floor"]["stream_seq"], info["delivered"]["stream_seq"]) == (3, 20)
    assert (info["num_ack_pending"], info["delivered"]["consumer_seq"]) == (15, 20)
    await js3.publish("s.a", b"new")
    await forge(js3, "S", "c", b"-NAK", *range(4, 21), delivered=20)
    await heir.ask(30)
    await eventually(lambda: len(heir.messages) == 16)
    # A new message may come before, as the server works off answers beside its deliveries: hence the barrier.
    assert [each for each in heir.sequences if each <= 20] == [4, 5, 7, *range(9, 21)]
    assert sorted(heir.deliveries) == [1] + [2] * 15


async def test_a_lease_in_three_replicas_runs_out_and_is_free_at_revision_0(js3: RawJetStream) -> None:
    await js3.create("B", ["k.>"], allow_msg_ttl=True, max_msgs_per_subject=1, num_replicas=3)
    await js3.publish("k.lease", b"me", {"Nats-TTL": "1s"})

    async def gone() -> bool:
        return await js3.count("B") == 0

    await eventually(gone)
    assert code(await answer(js3, "k.lease", revision(0))) == 0
    await js3.api("STREAM.DELETE.B")
