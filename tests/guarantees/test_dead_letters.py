"""What no retry can help stands in `DEADLETTERS`: whole, with the reason, and before its message is given up."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import Stored
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]


def facts(letter: Stored) -> dict[str, str]:
    """The `Jetrunner-Dead-*` headers, by the rest of their names."""
    prefix = "Jetrunner-Dead-"
    return {
        name.removeprefix(prefix): value for name, value in letter.headers.items() if name.startswith(prefix)
    }


async def test_a_dead_letter_carries_the_message_and_every_header_of_the_contract(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{customer}", retry=RetryPolicy.fixed(0.01, attempts=2))
        async def charge(order: Order, customer: str) -> None:
            raise ValueError("no\\nmoney")
    """)
    sequence = await shop.js.publish(
        "orders.anna", {"id": 7}, {"Tenant": "a", "Nats-Msg-Id": "mine", "X-Umlaut": "grüße"}
    )
    shop.run()
    letter = await shop.dead_letter()
    assert (letter.subject, letter.json()) == ("deadletters.shop.charge", {"id": 7})
    told = facts(letter)
    assert told["Reason"] == "exhausted"
    assert (told["Error"], told["Message"]) == ("ValueError", "no money")
    assert (told["Stream"], told["Sequence"], told["Subject"]) == ("ORDERS", str(sequence), "orders.anna")
    assert (told["Attempts"], told["Function"]) == ("2", "charge")
    assert datetime.fromisoformat(told["Time"]).tzinfo is not None
    assert "shop.py" in told["Traceback"]
    assert "in charge" in told["Traceback"]
    assert "runner/pipeline" not in told["Traceback"]
    assert letter.headers["Tenant"] == "a"
    assert letter.headers["X-Umlaut"] == "grüße"
    assert letter.headers["Jetrunner-Origin-Msg-Id"] == "mine"
    await shop.settled("charge")


async def test_every_reason_names_what_ended_the_message(shop: Shop) -> None:
    await shop.open("""
        once = RetryPolicy(attempts=1)

        @consume("orders.rejected")
        async def rejected(order: Order) -> None:
            raise Reject("nothing to charge")

        @consume("orders.undecodable")
        async def undecodable(order: Order) -> None:
            note("never")

        @consume("orders.{token}.token")
        async def token(order: Order, token: int) -> None:
            note("never")

        @consume("orders.exhausted", retry=once)
        async def exhausted(order: Order) -> None:
            raise KeyError("x")

        @consume("orders.timeout", timeout=0.3, retry=once)
        async def timeout(order: Order) -> None:
            await asyncio.sleep(60)

        @consume("orders.expired", max_age=0.001)
        async def expired(order: Order) -> None:
            note("never")

        @consume("orders.kinds", retry=RetryPolicy(retry_on=(OSError,)))
        async def kinds(order: Order) -> None:
            raise KeyError("x")
    """)
    for subject, body in (
        ("rejected", {"id": 1}),
        ("undecodable", {"id": "one"}),
        ("abc.token", {"id": 1}),
        ("exhausted", {"id": 1}),
        ("timeout", {"id": 1}),
        ("expired", {"id": 1}),
        ("kinds", {"id": 1}),
    ):
        await shop.js.publish(f"orders.{subject}", body)
    shop.run()
    await shop.dead_letter(7)
    told = {letter.subject.split(".")[-1]: facts(letter) for letter in await shop.dead()}
    assert {name: each["Reason"] for name, each in told.items()} == {
        "rejected": "rejected",
        "undecodable": "undecodable",
        "token": "undecodable",
        "exhausted": "exhausted",
        "timeout": "timeout",
        "expired": "expired",
        "kinds": "rejected",
    }
    assert told["rejected"]["Message"] == "nothing to charge"
    assert "$.id" in told["undecodable"]["Message"]
    assert "token" in told["token"]["Message"]
    assert told["timeout"]["Error"] == "TimeoutError"
    assert {name for name, each in told.items() if each["Attempts"] != "1"} == {"expired"}
    assert told["expired"]["Attempts"] == "0"
    assert shop.notes("never") == []
    for name in told:
        await shop.settled(name)


async def test_a_timeout_that_is_not_the_last_is_retried_and_an_error_after_it_is_exhausted(
    shop: Shop,
) -> None:
    await shop.open("""
        @consume("orders.{id}", timeout=0.3, retry=RetryPolicy.fixed(0, attempts=2))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", left=ctx.deadline)
            if ctx.attempt == 1:
                await asyncio.sleep(60)
            raise ValueError("no")
    """)
    shop.run()
    for number in range(1, 4):  # whoever stands still in an attempt has less left of it, and not three times
        await shop.order(number)
        assert reason(await shop.dead_letter(number)) == "exhausted"
        left = [each["left"] for each in shop.notes("run")[-2:]]
        if min(left) > 0.1:
            break
    assert 0.1 < min(left) <= max(left) <= 0.3


async def test_a_message_stays_until_its_dead_letter_is_stored(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}")
        async def charge(order: Order) -> None:
            note("run")
            raise Reject("no")
    """)
    process = await shop.running("charge")
    full = (await shop.js.stream("DEADLETTERS"))["config"] | {"max_msgs": 1, "discard": "new"}
    await shop.js.api("STREAM.UPDATE.DEADLETTERS", full)
    await shop.js.publish("deadletters.other.one", b"")
    await shop.order(1)
    await shop.noted("run")
    assert await shop.in_work("charge") == 1
    await shop.js.api("STREAM.UPDATE.DEADLETTERS", full | {"max_msgs": 10})
    await shop.dead_letter(2)
    await shop.settled("charge")
    assert len(shop.notes("run")) == 1
    assert process.running


async def test_a_dead_letter_larger_than_its_stream_takes_is_stored_without_its_body_and_comes_back_whole(
    shop: Shop,
) -> None:
    await shop.open("""
        @consume("orders.{id}", timeout=60)
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id, size=len(order.note))
            if not os.path.exists("mended"):
                raise Reject("no")
    """)
    await shop.running("charge")
    small = (await shop.js.stream("DEADLETTERS"))["config"] | {"max_msg_size": 1500}
    await shop.js.api("STREAM.UPDATE.DEADLETTERS", small)
    await shop.order(1, note="n" * 2000, headers={"Tenant": "a"})
    letter = await shop.dead_letter()
    await shop.settled("charge")
    told = facts(letter)
    assert (told["Reason"], told["Message"], told["Body"], letter.body) == ("rejected", "no", "omitted", b"")
    assert len(letter.raw_headers) <= 1500
    await shop.order(2, note="n" * 200)
    assert (await shop.dead_letter(2)).json()["id"] == 2
    (shop.project.root / "mended").touch()
    assert len(shop.project.json("deadletter", "redrive", "--all")["redriven"]) == 2
    await shop.settled("charge", stream="JETRUNNER")
    assert sorted((each["id"], each["size"]) for each in shop.notes("run")) == [
        (1, 2000), (1, 2000), (2, 200), (2, 200),
    ]  # fmt: skip
    assert await shop.dead() == []


async def test_a_message_with_as_many_headers_as_a_stream_takes_is_stored_as_a_dead_letter_too(
    shop: Shop,
) -> None:
    await shop.open("""
        @consume("orders.{id}")
        async def charge(order: Order) -> None:
            note("run")
            raise Reject("no")
    """)
    await shop.running("charge")
    await shop.order(1, headers={"Tenant": "a", "Large": "l" * 65_450})
    letter = await shop.dead_letter()
    await shop.settled("charge")
    assert (letter.json()["id"], letter.headers["Tenant"], "Large" in letter.headers) == (1, "a", False)
    assert facts(letter)["Headers"] == "omitted"
    assert len(shop.notes("run")) == 1


async def test_dead_letters_deleted_under_the_runner_are_made_anew(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}")
        async def charge(order: Order) -> None:
            raise Reject("no")
    """)
    await shop.running("charge")
    await shop.js.api("STREAM.DELETE.DEADLETTERS")
    await shop.order(1)
    assert reason(await shop.dead_letter()) == "rejected"
    await shop.settled("charge")


async def test_a_dead_letter_stands_once_when_the_process_dies_before_its_message_is_given_up(
    shop: Shop,
) -> None:
    await shop.open("""
        @consume("orders.{id}")
        async def charge(order: Order) -> None:
            raise Reject("no")
    """)
    process = await shop.running("charge")
    await shop.order(1)
    await shop.dead_letter()
    await shop.settled("charge")
    process.kill()
    # As a process leaves it that dies in between: the dead letter is stored, the message is not terminated.
    await shop.js.api("CONSUMER.DELETE.ORDERS.shop-charge")
    await shop.js.api("STREAM.PURGE.KV_jetrunner")
    shop.run()
    await shop.settled("charge")
    assert await shop.js.count("DEADLETTERS") == 1


async def test_the_server_is_told_why_a_message_was_given_up(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}")
        async def charge(order: Order) -> None:
            raise Reject("nothing\\r\\nto charge")
    """)
    heard = await shop.js.client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.ORDERS.shop-charge")
    await shop.order(1)
    shop.run()
    advisory = await heard.next_msg(timeout=60)
    assert b'"reason":"rejected: nothing to charge"' in advisory.data
    await eventually(lambda: shop.js.settled("ORDERS", "shop-charge"))
