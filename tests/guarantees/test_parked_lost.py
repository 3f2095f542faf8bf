"""Parked keys when the bucket is emptied, or their stream becomes another: what is parked stays first, what is new is not skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.book import Book
from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    @consume("orders.{customer}", output="paid.{customer}", ordered_by="customer", on_exhausted="park",
             retry=RetryPolicy(attempts=1))
    async def charge(order: Order, customer: str, ctx: Context) -> Order:
        note("start", id=order.id, customer=customer, attempt=ctx.attempt)
        if os.path.exists(f"reject-{order.id}"):
            raise Reject("nothing to charge")
        note("done", id=order.id, customer=customer)
        return order
"""
MARK = "$KV.jetrunner.parked.shop.charge.anna"


async def running(shop: Shop) -> RunnerProcess:
    process = shop.run()
    await process.seen("ready")
    return process


async def order(shop: Shop, customer: str, *numbers: int) -> None:
    for number in numbers:
        await shop.js.publish(f"orders.{customer}", {"id": number})


def done(shop: Shop, customer: str = "anna") -> list[int]:
    return [note["id"] for note in shop.notes("done") if note["customer"] == customer]


async def stands(shop: Shop, stream: str, numbers: list[int]) -> bool:
    return [message.json()["id"] for message in await shop.js.messages(stream)] == numbers


async def parked(shop: Shop, first: int, *behind: int) -> RunnerProcess:
    """A running function, and a key parked behind one message."""
    await shop.open(CHARGE)
    process = await running(shop)
    (shop.project.root / f"reject-{first}").touch()
    await order(shop, "anna", *range(1, first), first, *behind)
    await eventually(lambda: stands(shop, "PARKED", list(behind)))
    await shop.dead_letter()
    await eventually(lambda: is_marked(shop))
    (shop.project.root / f"reject-{first}").unlink()
    return process


async def comes_back(shop: Shop, numbers: list[int]) -> None:
    told = shop.project.runner("deadletter", "redrive", "--key", "anna")
    assert told.code == 0, told.stderr
    await eventually(lambda: done(shop) == numbers)
    await eventually(lambda: stands(shop, "DEADLETTERS", []))
    await eventually(lambda: stands(shop, "PARKED", []))


async def is_marked(shop: Shop, state: str = "parked") -> bool:
    return [mark.json()["state"] for mark in await shop.js.messages("KV_jetrunner", MARK)] == [state]


@pytest.mark.parametrize("how", ["purged", "deleted"])
async def test_a_key_stays_parked_when_the_bucket_is_emptied_while_nobody_runs(shop: Shop, how: str) -> None:
    process = await parked(shop, 2, 3, 4)
    process.terminate()
    await process.ended()
    await shop.js.api(f"STREAM.{'PURGE' if how == 'purged' else 'DELETE'}.KV_jetrunner")
    await order(shop, "anna", 5)
    await order(shop, "ben", 11)
    process = await running(shop)
    await process.seen("charge: key anna has messages in PARKED, but its mark is lost: it is parked again")
    await eventually(lambda: done(shop, "ben") == [11])
    await eventually(lambda: stands(shop, "PARKED", [3, 4, 5]))
    (key,) = shop.project.json("deadletter", "list", "--parked")
    assert (key["key"], key["state"], key["dead_letters"], key["parked"]) == ("anna", "parked", 1, 3)
    assert done(shop) == [1]
    await comes_back(shop, [1, 2, 3, 4, 5])


async def test_what_is_parked_behind_a_dead_letter_that_is_gone_comes_back_without_it(shop: Shop) -> None:
    """The bucket is emptied as well: the key has an older dead letter, which has expired and stays."""
    process = await parked(shop, 2, 3, 4)
    process.terminate()
    await process.ended()
    await shop.js.api("STREAM.PURGE.KV_jetrunner")
    await shop.js.api("STREAM.PURGE.DEADLETTERS")
    headers = {
        "Stream": "ORDERS", "Sequence": "1", "Timestamp": "5", "Subject": "orders.anna", "Project": "shop",
        "Function": "charge", "Reason": "expired",
    }  # fmt: skip
    expired = {f"Jetrunner-Dead-{name}": value for name, value in headers.items()}
    await shop.js.publish("deadletters.shop.charge", {"id": 1}, expired)
    await running(shop)
    await eventually(lambda: is_marked(shop))
    told = shop.project.runner("deadletter", "redrive", "--key", "anna")
    assert told.stdout == "charge: key anna comes back: 0 dead letters, then 2 parked\n"
    await eventually(lambda: done(shop) == [1, 3, 4])
    assert await stands(shop, "DEADLETTERS", [1])


@pytest.mark.parametrize("how", ["its mark", "all of it", "the bucket"])
async def test_an_owner_that_knows_a_mark_writes_it_again(shop: Shop, how: str) -> None:
    """A key is parked with nothing behind it: without its mark nothing would tell."""
    await parked(shop, 2)
    if how == "the bucket":
        await shop.js.api("STREAM.DELETE.KV_jetrunner")
    else:
        await shop.js.api("STREAM.PURGE.KV_jetrunner", {"filter": MARK} if how == "its mark" else None)
    await order(shop, "anna", 3)
    await eventually(lambda: is_marked(shop))
    await order(shop, "anna", 4)
    await eventually(lambda: stands(shop, "PARKED", [3, 4]))
    assert done(shop) == [1]
    await comes_back(shop, [1, 2, 3, 4])


@pytest.mark.parametrize("now", ["parked", "free"])
async def test_an_owner_that_knows_a_mark_writes_it_over_an_older_one_of_a_bucket_that_went_back(
    shop: Shop, nats_server: NatsServer, make_project: Callable[..., Project], tmp_path: Path, now: str
) -> None:
    """Soon: until it stands there, an owner that comes next would run what waits, or park what is done."""
    store = Book(nats_server, shop.js, make_project, tmp_path)
    await parked(shop, 2)
    if now == "free":
        copy = await store.copied()
        await comes_back(shop, [1, 2])
    else:
        await comes_back(shop, [1, 2])
        await eventually(lambda: is_marked(shop, "free"))  # before that, the next message waits in PARKED
        copy = await store.copied()
        (shop.project.root / "reject-3").touch()
        await order(shop, "anna", 3)
        await eventually(lambda: is_marked(shop))
    await store.put_back(copy, ["KV_jetrunner"])
    await eventually(lambda: is_marked(shop, now))
    (shop.project.root / "reject-3").unlink(missing_ok=True)
    await order(shop, "anna", 4)
    if now == "free":
        await eventually(lambda: done(shop) == [1, 2, 4])
    else:
        await eventually(lambda: stands(shop, "PARKED", [4]))
        await comes_back(shop, [1, 2, 3, 4])


@pytest.mark.parametrize("state", ["parked", "free"])
async def test_a_mark_turns_nothing_away_that_a_stream_made_again_has_stored(shop: Shop, state: str) -> None:
    process = await parked(shop, 5, 6, 7)
    if state == "free":
        await comes_back(shop, [1, 2, 3, 4, 5, 6, 7])
    process.terminate()
    await process.ended()
    await shop.js.api("STREAM.DELETE.ORDERS")
    await shop.js.create("ORDERS", ["orders.>"])
    await running(shop)
    await order(shop, "anna", 21, 22, 23)
    if state == "parked":
        await eventually(lambda: stands(shop, "PARKED", [6, 7, 21, 22, 23]))
        await comes_back(shop, [1, 2, 3, 4, 5, 6, 7, 21, 22, 23])
    await eventually(lambda: done(shop) == [1, 2, 3, 4, 5, 6, 7, 21, 22, 23])
    await order(shop, "anna", 24)
    await eventually(lambda: done(shop)[-1] == 24)


async def test_what_is_left_over_of_a_key_that_is_back_is_removed_and_not_parked_again(shop: Shop) -> None:
    """A message was stored in `PARKED` once more, by an instance that had lost the shard."""
    process = await parked(shop, 2, 3, 4)
    left, *_ = await shop.js.messages("PARKED")
    await comes_back(shop, [1, 2, 3, 4])
    process.terminate()
    await process.ended()
    headers = {name: value for name, value in left.headers.items() if name != "Nats-Msg-Id"}
    await shop.js.publish(left.subject, left.body, headers)
    await running(shop)
    await eventually(lambda: stands(shop, "PARKED", []))
    await order(shop, "anna", 5)
    await eventually(lambda: done(shop) == [1, 2, 3, 4, 5])
    assert shop.project.json("deadletter", "list", "--parked") == []
