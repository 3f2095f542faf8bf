"""Headers that the server acts on, in messages that are published later, and in those that are passed on."""

from __future__ import annotations

import pytest

from runner import connect
from tests.support.eventually import eventually
from tests.support.jetstream import Stored
from tests.support.process import RunnerProcess
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

LATER = """
    ACTING = {
        "plain": {},
        "short": {"Nats-TTL": "1s"},
        "long": {"Nats-TTL": "1h"},
        "elsewhere": {"Nats-Expected-Stream": "PAID"},
        "behind": {"Nats-Expected-Last-Subject-Sequence": "7"},
        "rollup": {"Nats-Rollup": "all"},
        "counted": {"Nats-Incr": "+1"},
        "scheduled": {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "a.b"},
        "sourced": {"Nats-Stream-Source": "RAW 1 > > raw.1"},
    }

    @consume("orders.{id}", retry=RetryPolicy(attempts=1))
    async def charge(order: Order, ctx: Context) -> None:
        ctx.publish(f"paid.{order.note}", order, headers={**ACTING[order.note], "Tenant": "a"}, delay=DELAY)
"""
DUE = "$JETRUNNER.due.shop"
TTL = "Jetrunner-Delayed-TTL"


async def paid(shop: Shop, *names: str) -> list[Stored]:
    """Order each of these late, and return what is in PAID once so many messages have been there."""
    for number, name in enumerate(names):
        await shop.order(number, note=name)
    await eventually(lambda: _last(shop, "PAID", len(names)))
    return await shop.js.messages("PAID")


async def test_a_delayed_output_with_a_ttl_is_published_and_lives_as_long_from_then_on(shop: Shop) -> None:
    """In the schedule, the TTL of 1 s would have removed it before its time."""
    await shop.open(LATER.replace("DELAY", "2.5"), allow_msg_ttl=True)
    shop.run()
    found = await paid(shop, "short", "long", "plain")
    lives = {each.subject.removeprefix("paid."): each.headers.get("Nats-TTL") for each in found}
    assert {"long": "1h", "plain": None}.items() <= lives.items()
    assert not any(TTL in each.headers or "Jetrunner-Delayed-Subject" in each.headers for each in found)
    await eventually(lambda: _gone(shop, "PAID", "paid.short"))


async def test_a_delayed_output_has_none_of_the_other_headers_that_the_server_acts_on(shop: Shop) -> None:
    await shop.open(LATER.replace("DELAY", "0.1"), allow_msg_ttl=True, allow_rollup_hdrs=True)
    shop.run()
    names = ["elsewhere", "behind", "rollup", "counted", "scheduled", "sourced"]
    found = await paid(shop, *names)
    assert {each.subject for each in found} == {f"paid.{name}" for name in names}
    headers = {name for each in found for name in each.headers if name != "traceparent"}
    assert headers == {"Nats-Msg-Id", "Tenant"}
    assert await shop.dead() == []


@pytest.mark.parametrize(
    ("ttl", "error", "why"),
    [("soon", "ValueError", "Nats-TTL"), ("500ms", "ValueError", "Nats-TTL"), ("1h", "ServerError", "PAID")],
)
async def test_a_ttl_that_the_target_will_refuse_is_the_handlers_failure(
    shop: Shop, ttl: str, error: str, why: str
) -> None:
    """Once the message is due, nobody could tell the handler. A TTL of 1 h is refused only where the stream allows none."""
    await shop.open(f"""
        @consume("orders.{{id}}", retry=RetryPolicy(attempts=1))
        async def charge(order: Order, ctx: Context) -> None:
            ctx.publish("paid.late", order, headers={{"Nats-TTL": "{ttl}"}}, delay=60)
    """, allow_msg_ttl=error == "ValueError")  # fmt: skip
    shop.run()
    await shop.order(1)
    letter = await shop.dead_letter()
    assert (reason(letter), letter.headers["Jetrunner-Dead-Error"]) == ("exhausted", error)
    assert why in letter.headers["Jetrunner-Dead-Message"]


async def test_what_an_app_publishes_later_keeps_its_ttl_too(shop: Shop) -> None:
    await shop.open("", allow_msg_ttl=True)
    shop.write('@consume("orders.{id}")\nasync def charge(order: Order) -> None: ...')
    await shop.running("charge")
    async with connect(shop.url, project=shop.project.root) as app:
        await app.publish(
            "paid.a", b"x", headers={"Nats-TTL": "1h", "Nats-Expected-Stream": "PAID"}, delay=0.1
        )
        with pytest.raises(ValueError, match="Nats-TTL"):
            await app.publish("paid.a", b"x", headers={"Nats-TTL": "soon"}, delay=0.1)
    await eventually(lambda: shop.js.count("PAID"))
    (found,) = await shop.js.messages("PAID")
    assert (found.headers["Nats-TTL"], "Nats-Expected-Stream" in found.headers) == ("1h", False)


@pytest.mark.parametrize("ttl", ["soon", "-1", "", "1s\x0bx", "9" * 30])
async def test_a_strangers_ttl_that_no_stream_takes_is_left_out(shop: Shop, ttl: str) -> None:
    await shop.open(LATER.replace("DELAY", "0"), allow_msg_ttl=True)
    await shop.running("charge")
    forged = {TTL: ttl, "Jetrunner-Delayed-Subject": "paid.a", "Jetrunner-Delayed-Msg-Id": "forged"}
    await shop.js.publish(DUE, b"forged", forged)
    await eventually(lambda: shop.js.count("PAID"))
    (found,) = await shop.js.messages("PAID")
    assert "Nats-TTL" not in found.headers


@pytest.mark.parametrize("delay", ["", ", delay=0.1"], ids=["at once", "later"])
@pytest.mark.since("2.14", "schedules")
async def test_a_firings_headers_may_be_passed_on(shop: Shop, delay: str) -> None:
    """The server has written into them which schedule fires next, and when: it takes that from nobody else. Their TTL is the runner's."""
    await shop.open(
        """
        from runner import cron

        @cron("@every 1s", retry=RetryPolicy(attempts=1))
        async def beat(ctx: Context) -> None:
            ctx.publish("paid.beat", ctx.headers.get("Nats-Schedule-Next"), headers={**ctx.headers, "Tenant": "a"}DELAY)
    """.replace("DELAY", delay)
    )
    process = shop.run()
    await eventually(lambda: _beaten(shop, process))
    (found, *_) = await shop.js.messages("PAID")
    assert found.body, "the firing says when the next one is"
    assert {name for name in found.headers if name.startswith("Nats-")} == {"Nats-Msg-Id"}
    assert await shop.dead() == []


async def test_a_parts_headers_may_be_passed_on(shop: Shop) -> None:
    """The runner has stored the part with a TTL, and under the condition that it is there once: that is not the output's."""
    await shop.open("""
        from runner import gather

        @consume("orders.{id}", output="paid.{id}")
        async def split(order: Order):
            yield 0
            yield 1

        @gather("paid.{id}", retry=RetryPolicy(attempts=1))
        async def total(parts: list[int], ctx: Context) -> None:
            ctx.publish("paid.sum.all", sum(parts), headers={**ctx.headers, "Tenant": "a"})
    """, allow_msg_ttl=True)  # fmt: skip
    await shop.running("split")
    await shop.order(1, 2)
    await eventually(lambda: _last(shop, "PAID", 6))
    found = await shop.js.messages("PAID", "paid.sum.all")
    assert [each.body for each in found] == [b"1", b"1"]
    names = {name for each in found for name in each.headers}
    assert {name for name in names if name.startswith(("Nats-", "Jetrunner-"))} == {"Nats-Msg-Id"}
    assert await shop.dead() == []


async def _beaten(shop: Shop, process: RunnerProcess) -> bool:
    assert process.running
    return await shop.js.count("PAID") > 0


async def _last(shop: Shop, stream: str, sequence: int) -> bool:
    return int((await shop.js.stream(stream))["state"]["last_seq"]) >= sequence


async def _gone(shop: Shop, stream: str, subject: str) -> bool:
    return await shop.js.messages(stream, subject) == []
