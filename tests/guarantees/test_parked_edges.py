"""What parks a key, and what else may be true of it: large messages, many of them, other shards, a killer on its way back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

LIMIT = 1_048_576
"""The server's max_payload."""
CHARGE = """
    def there(name):
        return os.path.exists(name)

    @consume("orders.{customer}.{region}.created", ordered_by=("region", "customer"), on_exhausted="park",
             retry=RetryPolicy(attempts=1), timeout=0.3)
    async def charge(order: Order, ctx: Context) -> None:
        note("start", id=order.id, key=ctx.key, size=len(order.note), headers=dict(ctx.headers))
        if there("reject") and order.id == 1:
            raise Reject("nothing to charge")
        if there("hang") and order.id == 1:
            await asyncio.sleep(30)
        if there("die") and order.id == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        while there("hold") and order.id == 1:
            await asyncio.sleep(0.01)
        note("done", id=order.id, key=ctx.key)
"""


def done(shop: Shop, key: str = "eu.anna") -> list[int]:
    return [each["id"] for each in shop.notes("done") if each["key"] == key]


async def order(shop: Shop, *numbers: int, customer: str = "anna", **fields: object) -> None:
    for number in numbers:
        await shop.js.publish(f"orders.{customer}.eu.created", {"id": number, **fields})


def redrive(shop: Shop) -> None:
    told = shop.project.runner("deadletter", "redrive", "--key", "eu.anna", "--function", "charge")
    assert told.code == 0, told.stderr


async def held_on_its_way_back(shop: Shop) -> None:
    """Park the key with a message that is rejected and one behind it, and bring it back: the first waits while `hold` is there."""
    (shop.project.root / "reject").touch()
    await order(shop, 1, 2)
    await eventually(lambda: counted(shop, 1))
    (shop.project.root / "hold").touch()
    (shop.project.root / "reject").unlink()
    redrive(shop)


async def crashed(shop: Shop) -> bool:
    return [reason(letter) for letter in await shop.dead()] == ["crashed"]


async def counted(shop: Shop, number: int) -> bool:
    return await shop.js.count("PARKED") == number


@pytest.mark.parametrize("why", ["rejected", "timeout", "undecodable"])
async def test_whatever_is_given_up_parks_its_key(shop: Shop, why: str) -> None:
    await shop.open(CHARGE)
    shop.run()
    if why == "undecodable":
        await shop.js.publish("orders.anna.eu.created", b"no JSON")
    else:
        (shop.project.root / {"rejected": "reject", "timeout": "hang"}[why]).touch()
        await order(shop, 1)
    await order(shop, 2)
    await eventually(lambda: counted(shop, 1))
    assert reason(await shop.dead_letter()) == why
    assert [message.subject for message in await shop.js.messages("PARKED")] == ["parked.shop.charge.eu.anna"]
    if why != "undecodable":
        (shop.project.root / {"rejected": "reject", "timeout": "hang"}[why]).unlink()
        redrive(shop)
        await eventually(lambda: done(shop) == [1, 2])


async def test_what_is_too_large_to_carry_its_origin_comes_back_whole(shop: Shop) -> None:
    await shop.open(CHARGE.replace("timeout=0.3", "timeout=5.0"))
    shop.run()
    (shop.project.root / "reject").touch()
    await order(shop, 1)
    size = await large(shop, 2)
    await eventually(lambda: counted(shop, 1))
    (shop.project.root / "reject").unlink()
    redrive(shop)
    await eventually(lambda: done(shop) == [1, 2])
    last = shop.notes("start")[-1]
    assert (last["size"], last["headers"]["Tenant"]) == (size, "a")
    await eventually(lambda: counted(shop, 0))


@pytest.mark.parametrize("keeps_order", [True, False])
async def test_what_is_too_large_to_carry_its_origin_and_is_gone_there_is_a_dead_letter(
    shop: Shop, *, keeps_order: bool
) -> None:
    source = CHARGE.replace("timeout=0.3", "timeout=5.0")
    await shop.open(source)
    process = shop.run()
    (shop.project.root / "reject").touch()
    await order(shop, 1)
    await large(shop, 2)
    await order(shop, 3)
    await eventually(lambda: counted(shop, 2))
    (shop.project.root / "reject").unlink()
    await shop.js.api("STREAM.MSG.DELETE.ORDERS", {"seq": 2})
    if keeps_order:
        redrive(shop)
    else:
        process.terminate()
        assert await process.ended() == 0
        shop.write(source.replace('ordered_by=("region", "customer"), on_exhausted="park",', ""))
        shop.run()
    await eventually(lambda: 3 in [each["id"] for each in shop.notes("done")])
    await eventually(lambda: counted(shop, 0))
    letter = (await shop.dead())[-1]
    assert reason(letter) == "object_missing"
    assert letter.headers["Jetrunner-Dead-Sequence"] == "2"
    assert letter.headers["Jetrunner-Dead-Subject"] == "orders.anna.eu.created"
    told = shop.project.runner("deadletter", "redrive", "--reason", "object_missing")
    assert "its body was omitted, and ORDERS:2 is not there any more" in told.stdout + told.stderr
    assert [each["id"] for each in shop.notes("start")].count(2) == 0


async def test_what_is_parked_in_a_stream_made_again_while_its_key_comes_back_runs_too(shop: Shop) -> None:
    """Its numbers begin again, below those that are settled."""
    source = CHARGE.replace("timeout=0.3", "timeout=60.0")
    await shop.open(source.replace('there("hold") and order.id == 1', 'there("hold") and order.id == 3'))
    shop.run()
    (shop.project.root / "reject").touch()
    await order(shop, 1, 2, 3)
    await eventually(lambda: counted(shop, 2))
    (shop.project.root / "hold").touch()
    (shop.project.root / "reject").unlink()
    redrive(shop)
    await eventually(lambda: shop.notes("start")[-1]["id"] == 3)
    config = (await shop.js.stream("PARKED"))["config"]
    (last,) = await shop.js.messages("PARKED")
    await shop.js.api("STREAM.DELETE.PARKED")
    await shop.js.api("STREAM.CREATE.PARKED", config)
    place = {"Jetrunner-Origin-Sequence": "4", "Jetrunner-Origin-Timestamp": str(time.time_ns())}
    headers = {name: value for name, value in last.headers.items() if name != "Nats-Msg-Id"}
    await shop.js.publish(last.subject, {"id": 4}, {**headers, **place})
    (shop.project.root / "hold").unlink()
    await eventually(lambda: done(shop) == [1, 2, 3, 4])
    await eventually(lambda: counted(shop, 0))


async def test_what_has_run_on_its_way_back_does_not_run_again_though_the_server_is_away_for_long(
    shop: Shop, nats_server: NatsServer
) -> None:
    await shop.open(CHARGE.replace("timeout=0.3", "timeout=60.0"))
    shop.project.function("patience", "from runner.ordered import unpark\n\nunpark.PATIENCE_SECONDS = 0.2\n")
    process = shop.run()
    await held_on_its_way_back(shop)
    await eventually(lambda: len(shop.notes("start")) == 2)
    await asyncio.to_thread(nats_server.stop)
    (shop.project.root / "hold").unlink()
    await process.seen(r"the end of a message of key eu.anna: no success for \d+ s yet")
    await asyncio.to_thread(nats_server.start)
    await eventually(lambda: done(shop) == [1, 2])
    assert [each["id"] for each in shop.notes("start")] == [1, 1, 2], "the first was rejected, then redriven"
    await eventually(lambda: counted(shop, 0))


async def large(shop: Shop, number: int) -> int:
    """One that fits as it is, and not with headers of ours; the size of its note."""
    size = LIMIT - len('{"id": 2, "note": ""}') - len("NATS/1.0\r\nTenant: a\r\n\r\n")
    await shop.js.publish("orders.anna.eu.created", {"id": number, "note": "x" * size}, {"Tenant": "a"})
    return size


async def test_very_many_newer_messages_wait_and_stop_no_other_key(shop: Shop) -> None:
    await shop.open(CHARGE.replace("timeout=0.3", "timeout=60.0"))
    shop.run()
    await held_on_its_way_back(shop)
    await eventually(lambda: [each["id"] for each in shop.notes("start")] == [1, 1])
    for number in range(3, 1503):
        await shop.js.client.publish("orders.anna.eu.created", b'{"id": %d}' % number)
    await order(shop, 1503)
    await order(shop, 5, customer="ben")
    await eventually(lambda: done(shop, "eu.ben") == [5])
    (shop.project.root / "hold").unlink()
    await eventually(lambda: len(done(shop)) >= 1503, within=60)
    assert done(shop) == list(range(1, 1504))
    await eventually(lambda: counted(shop, 0))


async def test_one_that_kills_its_process_on_its_way_back_is_given_up_and_the_rest_stays(shop: Shop) -> None:
    await shop.open(CHARGE.replace("timeout=0.3", "timeout=60.0"))
    process = shop.run()
    (shop.project.root / "reject").touch()
    await order(shop, 1, 2)
    await eventually(lambda: counted(shop, 1))
    (shop.project.root / "reject").unlink()
    (shop.project.root / "die").touch()
    redrive(shop)
    await process.ended()
    process = shop.run()
    await order(shop, 3)
    await eventually(lambda: crashed(shop))
    await eventually(lambda: counted(shop, 2))
    assert done(shop) == []
    (shop.project.root / "die").unlink()
    redrive(shop)
    await eventually(lambda: done(shop) == [1, 2, 3])
    assert process.running


LEDGER = """
    name = "LEDGER"
    subjects = ["ledger.{account}.posted"]

    [shards]
    count = 2
    by = ["account"]
"""
POST = """
    import os
    from journal import note
    from msgspec import Struct
    from runner import Context, Reject, consume

    class Entry(Struct):
        number: int

    @consume("ledger.{account}.posted", ordered_by="account", on_exhausted="park")
    async def post(entry: Entry, ctx: Context) -> None:
        if entry.number == 1 and not os.path.exists("mended"):
            raise Reject("not yet")
        note("done", number=entry.number, key=ctx.key, shard=ctx.shard)
"""


async def test_a_key_stays_parked_when_the_number_of_shards_changes(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(functions={"ledger": POST}, streams={"ledger": LEDGER}, nats=nats_server.url)
    assert project.runner("apply").code == 0
    process = project.start("run")
    await process.seen("ready")
    for number in (1, 2, 3):
        for account in ("a", "b", "c", "d"):
            await js.publish(f"ledger.{account}.posted", {"number": number})

    async def parked(count: int) -> bool:
        return await js.count("PARKED") == count

    await eventually(lambda: parked(8))
    resized = await asyncio.to_thread(project.runner, "shard", "resize", "LEDGER", "5")
    assert resized.code == 0, resized.stderr
    for account in ("a", "b", "c", "d"):
        await js.publish(f"ledger.{account}.posted", {"number": 4})
    await eventually(lambda: parked(12))
    (project.root / "mended").touch()
    for account in ("a", "b", "c", "d"):
        assert project.runner("deadletter", "redrive", "--key", account).code == 0
    await eventually(lambda: len(project.journal("done")) >= 16)
    for account in ("a", "b", "c", "d"):
        assert [each["number"] for each in project.journal("done") if each["key"] == account] == [1, 2, 3, 4]


async def test_a_key_stays_parked_where_a_literal_of_its_subject_chooses_the_shard_too(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    stream = LEDGER.replace("{account}.posted", "{account}.{kind}").replace("count = 2", "count = 7")
    stream = stream.replace('by = ["account"]', 'by = ["account", "kind"]')
    project = make_project(functions={"ledger": POST}, streams={"ledger": stream}, nats=nats_server.url)
    assert project.runner("apply").code == 0
    process = project.start("run")
    await process.seen("ready")
    for number in (1, 2):
        for account in ("a", "b", "c", "d"):
            await js.publish(f"ledger.{account}.posted", {"number": number})

    async def parked(count: int) -> bool:
        return await js.count("PARKED") == count

    await eventually(lambda: parked(4))
    process.kill()
    process = project.start("run")  # it learns of the parked keys from the bucket
    await process.seen("ready")
    for account in ("a", "b", "c", "d"):
        await js.publish(f"ledger.{account}.posted", {"number": 3})
    await eventually(lambda: parked(8))
    (project.root / "mended").touch()
    for account in ("a", "b", "c", "d"):
        assert project.runner("deadletter", "redrive", "--key", account).code == 0
    await eventually(lambda: len(project.journal("done")) >= 12)
    for account in ("a", "b", "c", "d"):
        assert [each["number"] for each in project.journal("done") if each["key"] == account] == [1, 2, 3]


async def test_what_is_to_be_parked_waits_while_its_owner_may_start_nothing(shop: Shop) -> None:
    """The shard may be another instance's by then, and the key be back already."""
    await shop.open("""
    from pathlib import Path
    from runner.cluster.membership import Membership

    may_start = Membership.may_start
    Membership.may_start = lambda lease, now: not Path("silent").exists() and may_start(lease, now)

    @consume("orders.{customer}", ordered_by="customer", on_exhausted="park", retry=RetryPolicy(attempts=1))
    async def charge(order: Order) -> None:
        raise Reject("nothing to charge")

    @consume("orders.{customer}", concurrency=1)
    async def audit(order: Order) -> None:
        note("audit", id=order.id)
    """)
    process = shop.run()
    await process.seen("ready:")
    await shop.js.publish("orders.anna", {"id": 1})
    await shop.js.publish("orders.anna", {"id": 2})
    await eventually(lambda: holds_parked(shop, 1))
    (shop.project.root / "silent").touch()
    await shop.js.publish("orders.anna", {"id": 3})
    for number in range(4, 104):  # each is read, and told, after the one that is to be parked
        await shop.js.publish("orders.ben", {"id": number})
    await shop.noted("audit", 103)
    assert await holds_parked(shop, 1)
    (shop.project.root / "silent").unlink()
    await eventually(lambda: stored_ids(shop, [2, 3]))


async def holds_parked(shop: Shop, count: int) -> bool:
    return await shop.js.count("PARKED") == count


async def stored_ids(shop: Shop, numbers: list[int]) -> bool:
    parked = await shop.js.messages("PARKED", "parked.shop.charge.anna")
    return [message.json()["id"] for message in parked] == numbers
