"""What the server refuses of one function is told before another has worked, with function, file and remedy."""

from __future__ import annotations

import pytest

from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FIRST = """
    @consume("orders.a.{k}")
    async def first(order: Order) -> None:
        note("ran", id=order.id)

"""


def second(subject: str = "orders.b.{k}", options: str = "") -> str:
    return f"""
    @consume("{subject}"{options})
    async def second(order: Order) -> None:
        note("ran", id=order.id)
"""


async def started(shop: Shop, source: str, **limits: object) -> tuple[int, str]:
    """Exit code and output of `runner run` on a stream `QUEUE` with a message for each function."""
    await shop.js.create("QUEUE", ["orders.>"], **limits)
    shop.write(FIRST + source)
    for kind in "ab":
        await shop.js.publish(f"orders.{kind}.1", {"id": 1})
    process = shop.run()
    code = await process.ended(within=60)
    assert not shop.notes("ran")
    return code, process.output


@pytest.mark.parametrize("options", ["", ', ordered_by="k"'], ids=["unordered", "ordered"])
async def test_a_consumer_too_many(shop: Shop, options: str) -> None:
    code, output = await started(shop, second(options=options), max_consumers=1)
    assert code in {1, 2}
    assert "shop.py" in output
    assert ": second: " in output
    assert "hint: raise max_consumers of the stream" in output


async def test_two_functions_of_a_work_queue_that_read_the_same(shop: Shop) -> None:
    code, output = await started(shop, second("orders.{t}.{k}"), retention="workqueue")
    assert code == 2
    assert "second reads messages that first reads" in output
    assert "QUEUE is a work queue" in output


@pytest.mark.parametrize("options", ["", ', ordered_by="k"'], ids=["unordered", "ordered"])
async def test_a_strange_consumer_of_a_work_queue_that_reads_the_same(shop: Shop, options: str) -> None:
    await shop.js.create("QUEUE", ["orders.>"], retention="workqueue")
    await shop.js.api(
        "CONSUMER.CREATE.QUEUE.strange.orders.b.>",
        {
            "stream_name": "QUEUE",
            "config": {"durable_name": "strange", "ack_policy": "explicit", "filter_subject": "orders.b.>"},
            "action": "create",
        },
    )
    code, output = await started(shop, second(options=options), retention="workqueue")
    assert code in {1, 2}
    assert ": second: " in output
    assert "hint: each message of a work queue is for one consumer" in output
