"""Settings of a durable that somebody changes while functions run: put back, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runner.jetstream.consumer import REVISED, REVISION
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer, version
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WORK = """
    @consume("orders.{id}", retry=RetryPolicy.fixed(0.2, attempts=5))
    async def work(order: Order, ctx: Context) -> None:
        note("run", id=order.id, attempt=ctx.attempt)
        if ctx.attempt == 1 and order.note != "resent" and not order.id % 2:
            if not any(each == order.id for each in seen):
                seen.append(order.id)
                raise ValueError("the first time")
        note("done", id=order.id)

    seen = []
"""
ORDERED = """
    @consume("orders.{id}", ordered_by="id")
    async def work(order: Order) -> None:
        note("done", id=order.id)
"""
USERS = """authorization { users: [
    {user: admin, password: a},
    {user: app, password: b, permissions: { publish: { deny: ["%s"] } } }
] }"""


async def edited(shop: Shop, durable: str = "shop-work", **changes: Any) -> None:
    config = (await shop.js.consumer("ORDERS", durable))["config"] | changes
    body = {"stream_name": "ORDERS", "config": config, "action": "update"}
    await shop.js.api(f"CONSUMER.CREATE.ORDERS.{durable}", body)


async def config(shop: Shop) -> dict[str, Any]:
    found: dict[str, Any] = (await shop.js.consumer("ORDERS", "shop-work"))["config"]
    return found


async def all_done(shop: Shop, numbers: set[int]) -> None:
    await eventually(lambda: {each["id"] for each in shop.notes("done")} >= numbers)


async def test_what_the_server_gives_up_meanwhile_runs_all_the_same(shop: Shop) -> None:
    await shop.open(WORK)
    await shop.running("work")
    await shop.order(0)
    await all_done(shop, {0})
    await edited(shop, max_deliver=1)
    await shop.order(*range(1, 21))
    await all_done(shop, set(range(21)))
    assert (await config(shop))["max_deliver"] == -1
    assert not await shop.dead()


async def test_settings_are_put_back_while_a_function_runs(shop: Shop) -> None:
    await shop.open(WORK)
    await shop.running("work")
    await edited(shop, ack_wait=60 * 10**9, max_ack_pending=3, inactive_threshold=3600 * 10**9, backoff=None)
    await edited(shop, headers_only=True)

    async def put_back() -> bool:
        found = await config(shop)
        assert found["ack_wait"] == 10 * 10**9
        assert found["max_ack_pending"] == -1
        assert not found.get("inactive_threshold")
        return not found.get("headers_only")

    await eventually(put_back)


@pytest.mark.parametrize("policy", ["overflow", "pinned_client", "prioritized"])
async def test_priority_groups_that_somebody_sets_are_removed_and_it_goes_on(shop: Shop, policy: str) -> None:
    """The server delivers nothing to a pull that names no group, and gives up groups, policy and timeout only together."""
    if policy == "prioritized" and version() < (2, 14):
        pytest.skip("this server has no such policy")
    await shop.open(WORK)
    await shop.running("work")
    await edited(shop, priority_groups=["g"], priority_policy=policy)
    await shop.order(*range(1, 400, 2))
    await all_done(shop, set(range(1, 400, 2)))
    assert not (await config(shop)).get("priority_groups")


@pytest.mark.parametrize(
    ("source", "durable"), [(WORK, "shop-work"), (ORDERED, "shop-work-0-0")], ids=["unordered", "ordered"]
)
async def test_what_the_server_does_not_put_back_is_told_with_its_reason_and_tried_again(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project], source: str, durable: str
) -> None:
    server = make_server(USERS % "nothing")
    async with RawJetStream.connect(server.url_as("admin", "a")) as js:
        shop = Shop(js, server.url_as("app", "b"), make_project)
        await shop.open(source)
        process = shop.run()
        await process.seen("ready: ")
        await shop.order(1)
        await all_done(shop, {1})
        server.stop()
        server.start(USERS % f"$JS.API.CONSUMER.CREATE.ORDERS.{durable}")
        await edited(shop, durable, max_ack_pending=3)
        await shop.order(3)
        await process.seen(f"warning .*durable {durable} on ORDERS cannot be put back: .*do not allow")
        assert "max_ack_pending changes" not in process.output
        server.stop()
        server.start(USERS % "nothing")

        async def put_back() -> bool:
            return bool((await js.consumer("ORDERS", durable))["config"]["max_ack_pending"] == -1)

        await eventually(put_back)
        assert process.output.count("cannot be put back") == 1


async def test_what_a_later_revision_wants_is_left_to_it(shop: Shop) -> None:
    await shop.open(WORK)
    process = await shop.running("work")
    metadata = (await config(shop))["metadata"]
    assert metadata[REVISED] == str(REVISION)
    newer = {**metadata, REVISED: str(REVISION + 1)}
    await edited(shop, ack_wait=20 * 10**9, metadata=newer)
    process.terminate()
    await process.ended()
    await shop.running("work")
    await shop.order(1)
    await all_done(shop, {1})
    found = await config(shop)
    assert (found["ack_wait"], found["metadata"][REVISED]) == (20 * 10**9, str(REVISION + 1))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"ack_policy": "none"}, 'has ack_policy "none"'),
        ({"ack_policy": "all"}, 'has ack_policy "all"'),
        ({"ack_policy": "explicit", "deliver_subject": "push.here"}, "is a push consumer"),
    ],
)
async def test_a_durable_that_no_function_can_read_with_is_an_error_at_the_start(
    shop: Shop, fields: dict[str, Any], says: str
) -> None:
    await shop.open(WORK)
    made = {"durable_name": "shop-work", "name": "shop-work", "filter_subject": "orders.*", **fields}
    await shop.js.api("CONSUMER.CREATE.ORDERS.shop-work", {"stream_name": "ORDERS", "config": made})
    process = shop.run()
    assert await process.ended() == 1
    assert f"work: consumer shop-work on ORDERS {says}" in process.output
    assert "nats consumer rm ORDERS shop-work" in process.output


async def test_one_that_somebody_makes_in_its_place_is_read_again_once_it_is_gone(shop: Shop) -> None:
    await shop.open(WORK)
    process = await shop.running("work")
    await shop.order(1)
    await all_done(shop, {1})
    await shop.js.api("CONSUMER.DELETE.ORDERS.shop-work")
    made = {
        "durable_name": "shop-work",
        "name": "shop-work",
        "filter_subject": "orders.*",
        "ack_policy": "none",
    }

    async def in_its_place() -> bool:
        if (await config(shop))["ack_policy"] != "none":
            await shop.js.api("CONSUMER.DELETE.ORDERS.shop-work")
            body = {"stream_name": "ORDERS", "config": made, "action": "create"}
            await shop.js.api("CONSUMER.CREATE.ORDERS.shop-work", body)
        return True

    await eventually(in_its_place)
    await process.seen("ack_policy")
    await shop.js.api("CONSUMER.DELETE.ORDERS.shop-work")
    await shop.order(2, 3)
    await all_done(shop, {1, 2, 3})
    assert (await config(shop))["ack_policy"] == "explicit"


async def _stands(shop: Shop, floor: str) -> bool:
    return any(each.json()["sequence"] == 5 for each in await shop.js.messages("KV_jetrunner", floor))


async def test_the_filter_of_a_shard_is_put_back_and_nothing_is_passed_over(shop: Shop) -> None:
    await shop.open(ORDERED)
    process = shop.run()
    await process.seen("ready: work")
    await shop.order(*range(5))
    await all_done(shop, set(range(5)))
    floor = "$KV.jetrunner.floor.shop.ORDERS.shop-work-0-0"
    await eventually(lambda: _stands(shop, floor))
    await edited(shop, "shop-work-0-0", filter_subject="orders.1")
    await shop.js.api(
        "STREAM.PURGE.KV_jetrunner", {"filter": floor}
    )  # it is saved again before the durable goes
    await shop.order(*range(5, 10))
    await process.seen("durable shop-work-0-0 on ORDERS was deleted; it is created again after 5")
    await eventually(lambda: {each["id"] for each in shop.notes("done")} == set(range(10)))


async def test_what_the_server_gave_up_is_sent_back_once_that_can_be_stored_again(shop: Shop) -> None:
    await shop.open(WORK)
    process = await shop.running("work")
    own = (await shop.js.stream("JETRUNNER"))["config"]
    await shop.js.api("STREAM.UPDATE.JETRUNNER", own | {"max_msg_size": 10})
    numbers: set[int] = set()

    def given_up() -> bool:
        return "messages that the server gave up cannot be sent back yet" in process.output

    while not given_up():  # the limit may be put back before the server has given up anything
        number = 2 * len(numbers) + 2
        numbers.add(number)
        await edited(shop, max_deliver=1)
        await shop.order(number)
        await eventually(lambda: given_up() or {each["id"] for each in shop.notes("done")} >= numbers)
    await shop.js.api("STREAM.UPDATE.JETRUNNER", own)
    await all_done(shop, numbers)
    assert not await shop.dead()
