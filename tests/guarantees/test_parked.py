"""`on_exhausted="park"`: what comes after a message that was given up waits for it, in order, and nothing else waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    def there(name):
        return os.path.exists(name)

    @consume("orders.{customer}.{kind}", output="paid.{customer}", ordered_by="customer", on_exhausted="park",
             retry=RetryPolicy.fixed(0.05, attempts=2))
    async def charge(order: Order, customer: str, ctx: Context) -> Order:
        note("start", id=order.id, customer=customer, attempt=ctx.attempt, sequence=ctx.sequence, key=ctx.key,
             shard=ctx.shard, subject=ctx.subject, stream=ctx.stream, headers=dict(ctx.headers))
        if there(f"reject-{order.id}"):
            raise Reject("nothing to charge")
        if there(f"fail-{order.id}"):
            raise ValueError("no bank")
        while there(f"hold-{order.id}"):
            await asyncio.sleep(0.01)
        note("done", id=order.id, customer=customer)
        return order
"""


def touch(shop: Shop, *names: str) -> None:
    for name in names:
        (shop.project.root / name).touch()


def mend(shop: Shop, *names: str) -> None:
    for name in names:
        (shop.project.root / name).unlink()


async def order(shop: Shop, customer: str, *numbers: int, headers: dict[str, str] | None = None) -> None:
    for number in numbers:
        await shop.js.publish(f"orders.{customer}.created", {"id": number}, headers)


def done(shop: Shop, customer: str = "anna") -> list[int]:
    return [note["id"] for note in shop.notes("done") if note["customer"] == customer]


async def finished(shop: Shop, numbers: list[int], customer: str = "anna") -> None:
    """Exactly these, in this order, and their outputs too."""
    await eventually(lambda: len(done(shop, customer)) >= len(numbers))
    assert done(shop, customer) == numbers
    await eventually(lambda: paid(shop, customer, numbers))


async def paid(shop: Shop, customer: str, numbers: list[int]) -> bool:
    found = [message.json()["id"] for message in await shop.js.messages("PAID", f"paid.{customer}")]
    assert found == numbers[: len(found)]
    return found == numbers


async def parked(shop: Shop, numbers: list[int], customer: str = "anna") -> None:
    """Exactly these stand in PARKED, in this order."""
    subject = f"parked.shop.charge.{customer}"

    async def stand() -> bool:
        return [message.json()["id"] for message in await shop.js.messages("PARKED", subject)] == numbers

    await eventually(stand)


async def settled(shop: Shop) -> None:
    await eventually(lambda: shop.js.settled("ORDERS", "shop-charge-0-0"))


def redrive(shop: Shop, key: str = "anna") -> dict[str, Any]:
    (told,) = shop.project.json("deadletter", "redrive", "--key", key)["keys"]
    return dict(told)


def keys(shop: Shop) -> list[dict[str, Any]]:
    return list(shop.project.json("deadletter", "list", "--parked"))


async def free(shop: Shop) -> None:
    async def none() -> bool:
        marks = await shop.js.messages("KV_jetrunner", "$KV.jetrunner.parked.>")
        return all(mark.json()["state"] == "free" for mark in marks)

    await eventually(none)


async def running(shop: Shop) -> RunnerProcess:
    process = shop.run()
    await process.seen("ready")
    return process


async def test_a_key_is_parked_and_comes_back_in_order_before_newer_ones(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "fail-2")
    await order(shop, "anna", 1, 2, 3)
    await order(shop, "ben", 11)
    await order(shop, "anna", 4, headers={"Tenant": "a"})
    await order(shop, "ben", 12)
    await parked(shop, [3, 4])
    await finished(shop, [11, 12], "ben")
    await finished(shop, [1])
    letter = await shop.dead_letter()
    assert reason(letter) == "exhausted"
    (key,) = keys(shop)
    assert (key["function"], key["key"], key["state"], key["dead_letters"], key["parked"]) == (
        "charge", "anna", "parked", 1, 2,
    )  # fmt: skip
    mend(shop, "fail-2")
    touch(shop, "hold-3")
    (status,) = shop.project.json("status")["functions"]
    assert (status["function"], status["dead_letters"], status["parked"]) == ("charge", 1, 2)
    told = shop.project.runner("status").stdout.replace(" instances", "").replace(" instance", "")
    heads, row, *_ = told.replace("IN FLIGHT", "IN-FLIGHT").splitlines()
    assert dict(zip(heads.split(), row.split(), strict=False))["PARKED"] == "2"
    back = redrive(shop)
    assert (back["dead_letters"], back["parked"]) == (1, 2)
    await eventually(lambda: 3 in [note["id"] for note in shop.notes("start")])
    await order(shop, "anna", 5, 6)
    await order(shop, "ben", 13)
    await finished(shop, [11, 12, 13], "ben")
    mend(shop, "hold-3")
    await finished(shop, [1, 2, 3, 4, 5, 6])
    await free(shop)
    await settled(shop)
    assert await shop.js.count("PARKED") == await shop.js.count("DEADLETTERS") == 0
    starts = {note["id"]: note for note in shop.notes("start")}
    assert [starts[number]["sequence"] for number in (1, 2, 3, 4, 5, 6)] == [1, 2, 3, 5, 7, 8]
    assert {(starts[n]["key"], starts[n]["shard"], starts[n]["stream"], starts[n]["subject"]) for n in range(1, 7)} == {
        ("anna", 0, "ORDERS", "orders.anna.created")
    }  # fmt: skip
    assert starts[4]["headers"]["Tenant"] == "a"
    assert starts[2]["attempt"] == 1
    assert keys(shop) == []
    again = shop.project.runner("deadletter", "redrive", "--key", "anna")
    assert (again.code, "no messages of key 'anna' are parked" in again.stderr) == (1, True)


async def test_what_fails_again_on_its_way_back_parks_the_rest_again(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "reject-1", "fail-3")
    await order(shop, "anna", 1, 2, 3, 4)
    await parked(shop, [2, 3, 4])
    mend(shop, "reject-1")
    redrive(shop)
    await parked(shop, [4])
    await finished(shop, [1, 2])
    await order(shop, "anna", 5)
    await parked(shop, [4, 5])
    assert [letter.json()["id"] for letter in await shop.dead()] == [3]
    assert [note["attempt"] for note in shop.notes("start") if note["id"] == 3] == [1, 2]
    mend(shop, "fail-3")
    redrive(shop)
    await order(shop, "anna", 6)
    await finished(shop, [1, 2, 3, 4, 5, 6])
    await free(shop)
    assert await shop.js.count("PARKED") == await shop.js.count("DEADLETTERS") == 0


@pytest.mark.parametrize("moment", ["parked", "letter", "parked message"])
async def test_a_killed_owner_changes_nothing_about_the_order(shop: Shop, moment: str) -> None:
    await shop.open(CHARGE)
    first = await running(shop)
    touch(shop, "fail-1")
    await order(shop, "anna", 1, 2, 3)
    await parked(shop, [2, 3])
    mend(shop, "fail-1")
    if moment == "parked":
        first.kill()
        await order(shop, "anna", 4)
        await running(shop)
        await parked(shop, [2, 3, 4])
        redrive(shop)
    else:
        held = 1 if moment == "letter" else 2
        touch(shop, f"hold-{held}")
        before = len(shop.notes("start"))
        redrive(shop)
        await eventually(lambda: held in [note["id"] for note in shop.notes("start")[before:]])
        await order(shop, "anna", 4)
        first.kill()
        mend(shop, f"hold-{held}")
        await running(shop)
    await order(shop, "anna", 5)
    await finished(shop, [1, 2, 3, 4, 5])
    await free(shop)
    await settled(shop)
    assert await shop.js.count("PARKED") == await shop.js.count("DEADLETTERS") == 0


async def test_a_stopped_owner_hands_the_returning_key_over_without_running_anything_twice(
    shop: Shop,
) -> None:
    await shop.open(CHARGE)
    first = await running(shop)
    touch(shop, "fail-1")
    await order(shop, "anna", 1, 2, 3)
    await parked(shop, [2, 3])
    mend(shop, "fail-1")
    touch(shop, "hold-2")
    redrive(shop)
    await eventually(lambda: 2 in [note["id"] for note in shop.notes("start")])
    await running(shop)
    first.terminate()
    await order(shop, "anna", 4)
    mend(shop, "hold-2")
    await finished(shop, [1, 2, 3, 4])
    await first.ended()
    await free(shop)
    if "another instance owns shard" not in first.output:  # as one that stands still for three seconds says
        assert [note["id"] for note in shop.notes("start")] == [1, 1, 1, 2, 3, 4]


async def test_dead_letters_of_a_parked_key_do_not_go_back_one_by_one(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "fail-1")
    await order(shop, "anna", 1, 2)
    await parked(shop, [2])
    alone = shop.project.runner("deadletter", "redrive", "--all")
    assert alone.code == 1
    assert "key anna of charge is parked" in alone.stderr
    assert "hint: runner parked retry anna" in alone.stderr
    both = shop.project.runner("deadletter", "redrive", "--key", "anna", "--all")
    assert (both.code, "--key goes with --function alone" in both.stderr) == (2, True)
    listed = shop.project.runner("deadletter", "list")
    assert "1 key parked; --parked shows it" in listed.stderr


async def test_several_keys_come_back_with_one_command_and_one_that_is_not_parked_is_told(shop: Shop) -> None:
    await shop.open(CHARGE)
    process = await running(shop)
    touch(shop, "reject-1", "reject-11")
    await order(shop, "anna", 1)
    await order(shop, "ben", 11, 12)
    await parked(shop, [12], "ben")
    await shop.dead_letter(2)
    assert "2 keys parked; --parked shows them" in shop.project.runner("deadletter", "list").stderr
    mend(shop, "reject-1", "reject-11")
    keys = [argument for key in ("ben", "nobody", "anna") for argument in ("--key", key)]
    told = shop.project.runner("deadletter", "redrive", *keys)
    assert told.stdout.splitlines() == [
        "charge: key ben comes back: 1 dead letter, then 1 parked",
        "charge: key anna comes back: 1 dead letter, then 0 parked",
    ]
    assert (told.code, "error: no messages of key 'nobody' are parked\n" in told.stderr) == (1, True)
    await finished(shop, [1])
    await finished(shop, [11, 12], "ben")
    await process.seen(r" info +parked: charge: key anna is back: 1 message$")
    await process.seen(r" info +parked: charge: key ben is back: 2 messages$")


async def test_a_key_whose_dead_letter_is_gone_stays_parked_until_the_rest_is_brought_back(
    shop: Shop,
) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "reject-1")
    await order(shop, "anna", 1, 2, 3)
    await parked(shop, [2, 3])
    letter = await shop.dead_letter()
    await shop.js.api("STREAM.MSG.DELETE.DEADLETTERS", {"seq": letter.sequence})
    (key,) = keys(shop)
    assert (key["state"], key["dead_letters"], key["parked"]) == ("parked", 0, 2)
    told = redrive(shop)
    assert (told["dead_letters"], told["parked"]) == (0, 2)
    await finished(shop, [2, 3])
    await free(shop)


async def test_a_message_that_has_expired_parks_nothing(shop: Shop, make_project: Callable[..., Any]) -> None:
    await shop.open(CHARGE.replace('ordered_by="customer",', 'ordered_by="customer", max_age=2.0,'))
    await order(shop, "anna", 1)
    await eventually(lambda: _older(shop, 2.1))
    await running(shop)
    letter = await shop.dead_letter()
    assert reason(letter) == "expired"
    for number in range(2, 5):  # whoever stands still for so long makes one too old, and not three
        await order(shop, "anna", number)
        await settled(shop)
        if done(shop):
            break
    await finished(shop, [number])


async def _older(shop: Shop, seconds: float) -> bool:
    import time
    from datetime import datetime

    stored = (await shop.js.message("ORDERS", 1)).time
    return time.time() - datetime.fromisoformat(stored[:26] + "+00:00").timestamp() > seconds
