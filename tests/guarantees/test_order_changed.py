"""A function's order is changed while some of its messages are kept back, or on their way back: nothing overtakes, nothing is lost."""

from __future__ import annotations

import json
import time

import pytest

from runner.core import park
from runner.core.origin import Origin
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream, Stored
from tests.support.process import RunnerProcess
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

PARKS = ', on_exhausted="park"'
BY_CUSTOMER = 'ordered_by="customer"'


def charge(order: str = "", subject: str = "orders.{customer}.{region}", name: str = "charge") -> str:
    return f"""
    @consume("{subject}", {order or "concurrency=8"}, retry=RetryPolicy(attempts=1))
    async def {name}(order: Order, ctx: Context) -> None:
        note("start", id=order.id, subject=ctx.subject, attempt=ctx.attempt, key=ctx.key)
        if os.path.exists(f"reject-{{order.id}}"):
            raise Reject("nothing to charge")
        note("done", id=order.id, subject=ctx.subject)
    """


def touch(shop: Shop, name: str) -> None:
    (shop.project.root / name).touch()


def mend(shop: Shop, name: str) -> None:
    (shop.project.root / name).unlink()


async def order(shop: Shop, *numbers: int, to: str = "anna.eu") -> None:
    for number in numbers:
        await shop.js.publish(f"orders.{to}", {"id": number})


def done(shop: Shop) -> list[int]:
    return [note["id"] for note in shop.notes("done")]


async def running(shop: Shop) -> RunnerProcess:
    process = shop.run()
    await process.seen("ready")
    return process


async def stopped(process: RunnerProcess) -> None:
    process.terminate()
    assert await process.ended() == 0


async def holds(js: RawJetStream, stream: str, count: int) -> bool:
    return await js.count(stream) == count


async def parked(shop: Shop, first: int, *behind: int, order_by: str = BY_CUSTOMER) -> RunnerProcess:
    """A running function that has parked a key behind one message."""
    await shop.open(charge(order_by + PARKS))
    process = await running(shop)
    touch(shop, f"reject-{first}")
    await order(shop, first, *behind)
    await eventually(lambda: holds(shop.js, "PARKED", len(behind)))
    await shop.dead_letter()
    mend(shop, f"reject-{first}")
    return process


async def none_left(shop: Shop) -> None:
    for stream in ("DEADLETTERS", "PARKED", "JETRUNNER"):
        await eventually(lambda name=stream: holds(shop.js, name, 0))  # type: ignore[misc]


def bring_back(shop: Shop, *arguments: str) -> tuple[int, str, str]:
    done = shop.project.runner("deadletter", "redrive", "--key", *arguments)
    return done.code, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("before", "after", "key", "tokens"),
    [
        (BY_CUSTOMER, 'ordered_by=("customer", "region")', "anna", ("token 2", "tokens 2 and 3")),
        ('ordered_by=("customer", "region")', BY_CUSTOMER, "anna.eu", ("tokens 2 and 3", "token 2")),
        (BY_CUSTOMER, BY_CUSTOMER + ', stream="ORDERS"', "anna", ("token 2", "token 3")),
    ],
    ids=["finer", "coarser", "another subject"],
)  # fmt: skip
async def test_a_function_that_reads_its_keys_elsewhere_does_not_start_while_one_is_parked(
    shop: Shop, before: str, after: str, key: str, tokens: tuple[str, str]
) -> None:
    process = await parked(shop, 1, 2, 3, order_by=before)
    await stopped(process)
    subject = "orders.{region}.{customer}" if "stream=" in after else "orders.{customer}.{region}"
    shop.write(charge(after + PARKS, subject))
    await order(shop, 4)
    changed = shop.run()
    assert await changed.ended() == 2
    assert f"charge: key {key!r} is kept back by {tokens[0]} of the subject" in changed.output
    assert f"ordered_by= is {tokens[1]} now" in changed.output
    assert "hint: run it with the subject and the ordered_by= of before" in changed.output
    assert done(shop) == []
    code, _, stderr = bring_back(shop, key)
    assert code == 1
    assert f"key {key} of charge is kept back by {tokens[0]} of its subject" in stderr
    shop.write(charge(before + PARKS))
    process = await running(shop)
    assert bring_back(shop, key)[0] == 0
    await eventually(lambda: done(shop) == [1, 2, 3, 4])
    await none_left(shop)
    await stopped(process)
    shop.write(charge(after + PARKS, subject))
    await running(shop)
    await order(shop, 5)
    await eventually(lambda: done(shop)[-1] == 5)


async def test_a_key_that_is_parked_stays_so_when_the_function_parks_none_any_more(shop: Shop) -> None:
    process = await parked(shop, 1, 2, 3)
    await stopped(process)
    shop.write(charge(BY_CUSTOMER))
    await running(shop)
    await order(shop, 4)
    await order(shop, 11, to="ben.eu")
    await eventually(lambda: holds(shop.js, "PARKED", 3))
    await eventually(lambda: done(shop) == [11])
    touch(shop, "reject-3")
    assert bring_back(shop, "anna")[0] == 0
    await eventually(lambda: done(shop) == [11, 1, 2, 4])
    await order(shop, 5)
    await eventually(lambda: done(shop) == [11, 1, 2, 4, 5])
    (letter,) = await shop.dead()
    assert letter.json() == {"id": 3}


async def test_what_is_parked_runs_when_the_function_keeps_no_order_any_more(shop: Shop) -> None:
    process = await parked(shop, 1, 2, 3)
    await stopped(process)
    shop.write(charge())
    process = await running(shop)
    await process.seen("no longer keeps order: of key anna, 0 dead letters and 2 parked messages")
    await eventually(lambda: {2, 3} <= set(done(shop)))
    await eventually(lambda: holds(shop.js, "PARKED", 0))
    assert shop.project.json("deadletter", "list", "--parked") == []
    assert len(await shop.dead()) == 1
    assert 1 not in done(shop), "the stream has run again"
    assert shop.project.runner("deadletter", "redrive", "--all").code == 0
    await eventually(lambda: 1 in done(shop))
    await none_left(shop)


async def test_a_dead_letter_on_its_way_runs_when_the_function_keeps_no_order_any_more(shop: Shop) -> None:
    await shop.open(charge(BY_CUSTOMER))
    process = await running(shop)
    touch(shop, "reject-1")
    await order(shop, 1)
    await shop.dead_letter()
    mend(shop, "reject-1")
    await stopped(process)
    assert shop.project.runner("deadletter", "redrive", "--all").code == 0  # nobody runs
    shop.write(charge(subject="orders.none.{region}"))
    await running(shop)
    await eventually(lambda: done(shop) == [1])
    await none_left(shop)


async def test_a_dead_letter_of_before_the_function_kept_order_comes_back_with_its_key(shop: Shop) -> None:
    await shop.open(charge())
    process = await running(shop)
    touch(shop, "reject-1")
    await order(shop, 1, 2)
    await shop.dead_letter()
    mend(shop, "reject-1")
    await stopped(process)
    shop.write(charge(BY_CUSTOMER))
    await running(shop)
    await eventually(lambda: none_reads(shop))
    assert shop.project.runner("deadletter", "redrive", "--all").code == 0
    await eventually(lambda: shop.notes("start")[-1]["key"] == "anna" and done(shop)[-1] == 1)
    await none_left(shop)


@pytest.mark.parametrize("parks", ["", PARKS], ids=["goes on", "parks"])
async def test_a_dead_letter_on_its_way_comes_back_by_the_key_of_now(shop: Shop, parks: str) -> None:
    """It was sent back while nobody ran, and then the order was changed."""
    await shop.open(charge(BY_CUSTOMER))
    process = await running(shop)
    touch(shop, "reject-1")
    await order(shop, 1, 2)
    await shop.dead_letter()
    await eventually(lambda: done(shop) == [2])
    await stopped(process)
    assert shop.project.runner("deadletter", "redrive", "--all").code == 0
    shop.write(charge('ordered_by=("region", "customer")' + parks))
    process = await running(shop)
    await process.seen("charge: ORDERS:1 is a dead letter")
    mend(shop, "reject-1")
    await order(shop, 3)
    if parks:
        await eventually(lambda: holds(shop.js, "PARKED", 1))
        assert bring_back(shop, "eu.anna")[0] == 0
    else:
        await eventually(lambda: done(shop) == [2, 3])
        assert shop.project.runner("deadletter", "redrive", "--all").code == 0
    await eventually(lambda: sorted(done(shop)) == [1, 2, 3])
    assert [note["key"] for note in shop.notes("start") if note["id"] == 1] == ["anna", "eu.anna", "eu.anna"]
    await none_left(shop)


async def test_one_that_is_sent_back_for_a_function_that_is_gone_stays(shop: Shop) -> None:
    await shop.open(charge(BY_CUSTOMER))
    process = await running(shop)
    touch(shop, "reject-1")
    await order(shop, 1)
    await shop.dead_letter()
    await stopped(process)
    shop.write(charge(BY_CUSTOMER, name="bill"))
    told = shop.project.runner("deadletter", "redrive", "--all")
    assert (told.code, told.stdout) == (1, "0 redriven, 1 failed\n")
    assert "dead letter 1 is kept: no instance takes what is redriven to charge" in told.stderr
    assert "hint: start a runner of shop that has the function charge" in told.stderr


async def none_reads(shop: Shop) -> bool:
    """Whether no durable reads what is sent back to the function by its name."""
    return "shop-charge" not in await shop.js.consumers("JETRUNNER")


def again(letter: Stored) -> dict[str, str]:
    """The headers under which an earlier release sent a dead letter back."""
    return {
        f"Jetrunner-Origin-{name}": letter.headers[f"Jetrunner-Dead-{name}"]
        for name in ("Stream", "Sequence", "Timestamp", "Subject")
    }


@pytest.mark.parametrize("durable", [True, False], ids=["by an earlier release", "by a command that errs"])
async def test_what_was_sent_back_by_name_to_an_ordered_function_comes_back_with_its_key(
    shop: Shop, durable: bool
) -> None:
    """What had been settled there, and not removed yet, does not run again."""
    await shop.open(charge(BY_CUSTOMER))
    process = await running(shop)
    for number in (1, 2, 3):
        touch(shop, f"reject-{number}")
    await order(shop, 1, 2, 3)
    await shop.dead_letter(3)
    letters = await shop.dead()
    await stopped(process)
    await shop.js.api("STREAM.PURGE.DEADLETTERS")
    sent = list(reversed(letters))
    if durable:
        config = {
            "name": "shop-charge", "durable_name": "shop-charge", "ack_policy": "explicit", "deliver_policy": "all",
            "filter_subject": "$JETRUNNER.again.shop.charge", "ack_wait": 5 * 10**9, "max_deliver": -1,
        }  # fmt: skip
        ask = {"stream_name": "JETRUNNER", "config": config, "action": "create"}
        await shop.js.api("CONSUMER.CREATE.JETRUNNER.shop-charge", ask)
        await shop.js.publish("$JETRUNNER.again.shop.charge", {"id": 99}, again(letters[0]))
        subscription = await shop.js.client.subscribe("taken")
        await shop.js.client.publish(
            "$JS.API.CONSUMER.MSG.NEXT.JETRUNNER.shop-charge", b'{"batch":2}', reply="taken"
        )
        await (await subscription.next_msg(60)).ack_sync(60)
        await shop.js.publish("$JETRUNNER.again.shop.charge", sent[0].body, again(sent.pop(0)))
        await subscription.next_msg(60)  # by an instance that died
    for letter in sent:
        await shop.js.publish("$JETRUNNER.again.shop.charge", letter.body, again(letter))
    for number in (1, 2, 3):
        mend(shop, f"reject-{number}")
    await running(shop)
    await eventually(lambda: sorted(done(shop)) == [1, 2, 3])
    assert {note["attempt"] for note in shop.notes("start")} == {1}
    await none_left(shop)
    await eventually(lambda: none_reads(shop))
    await order(shop, 4)
    await eventually(lambda: done(shop)[-1] == 4)
    assert 99 not in done(shop)


async def test_what_is_sent_back_by_name_while_it_runs_comes_back_and_nonsense_hurts_nobody(
    shop: Shop,
) -> None:
    await shop.open(charge(BY_CUSTOMER))
    process = await running(shop)
    touch(shop, "reject-1")
    await order(shop, 1)
    letter = await shop.dead_letter()
    mend(shop, "reject-1")
    for headers in ({}, {**again(letter), "Jetrunner-Origin-Subject": "orders"}):
        await shop.js.publish("$JETRUNNER.again.shop.charge", {"id": 9}, headers)
    await shop.js.publish("$JETRUNNER.again.shop.charge", letter.body, again(letter))
    await eventually(lambda: done(shop) == [1])
    await eventually(lambda: holds(shop.js, "JETRUNNER", 0))
    await eventually(lambda: holds(shop.js, "DEADLETTERS", 3))
    assert [each.headers["Jetrunner-Dead-Reason"] for each in await shop.dead()][1:] == ["undecodable"] * 2
    assert process.running


async def test_a_parked_key_of_a_function_that_is_gone_is_not_said_to_come_back(shop: Shop) -> None:
    process = await parked(shop, 1, 2)
    await stopped(process)
    shop.write(charge(BY_CUSTOMER + PARKS, name="bill"))
    code, stdout, stderr = bring_back(shop, "anna")
    assert (code, stdout) == (1, "")
    assert (
        "error: key anna is parked in charge, which neither this project nor a running instance has" in stderr
    )
    assert 'hint: @consume(..., name="charge") gives the function its old name back' in stderr
    (key,) = shop.project.json("deadletter", "list", "--parked")
    assert (key["state"], key["parked"]) == ("parked", 1)
    shop.write(charge(BY_CUSTOMER + PARKS + ', name="charge"', name="bill"))
    assert bring_back(shop, "anna")[0] == 0  # it comes back when somebody runs it
    await running(shop)
    await eventually(lambda: done(shop) == [1, 2])
    await none_left(shop)


async def test_an_instance_that_runs_counts_more_than_the_code_at_hand(shop: Shop) -> None:
    """A key is brought back where the code is newer than what runs."""
    await parked(shop, 1, 2)
    shop.write(charge('ordered_by=("customer", "region")' + PARKS))
    assert bring_back(shop, "anna")[0] == 0
    await eventually(lambda: done(shop) == [1, 2])
    await none_left(shop)


async def test_a_key_that_no_running_instance_would_know_is_not_said_to_come_back(shop: Shop) -> None:
    """What runs counts more than the code at hand, also where it keeps order by other tokens than the mark's."""
    await shop.open(charge('ordered_by=("customer", "region")' + PARKS))
    await running(shop)
    place = Origin("ORDERS", 1, time.time_ns(), "orders.anna.eu")
    mark = park.parked(
        None, place, (1,), time.time(), "anna"
    )  # an instance with the code of before has parked it
    await shop.js.publish("$KV.jetrunner.parked.shop.charge.anna", park.encode(mark))
    shop.write(charge(BY_CUSTOMER + PARKS))
    code, stdout, stderr = bring_back(shop, "anna")
    assert (code, stdout) == (1, "")
    assert "key anna of charge is kept back by token 2 of its subject" in stderr
    assert "ordered_by= is tokens 2 and 3 now" in stderr


@pytest.mark.parametrize(
    "value", [b"", b"nonsense", b'{"state":"parked"}', json.dumps({"key": "ben"}).encode()]
)
async def test_what_is_no_mark_keeps_nothing_back_and_does_not_stay_in_the_way(
    shop: Shop, value: bytes
) -> None:
    await shop.open(charge(BY_CUSTOMER + PARKS))
    await shop.js.create("KV_jetrunner", ["$KV.jetrunner.>"], max_msgs_per_subject=1, allow_direct=True)
    await shop.js.publish("$KV.jetrunner.parked.shop.charge.anna", value)
    await shop.js.publish("$KV.jetrunner.parked.shop", value)
    process = await running(shop)
    touch(shop, "reject-2")
    await order(shop, 1, 2, 3)
    await eventually(lambda: holds(shop.js, "PARKED", 1))
    assert done(shop) == [1]
    mend(shop, "reject-2")
    assert bring_back(shop, "anna")[0] == 0
    await eventually(lambda: done(shop) == [1, 2, 3])
    assert process.running
