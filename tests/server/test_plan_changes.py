"""What `plan` says of functions that are not what they were: what would run again, and what would not."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import IMPORTS, Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.fixture
async def shop(nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]) -> Shop:
    found = Shop(js, nats_server.url, make_project)
    await found.open(function())
    await found.order(*range(3))
    process = await found.running("work")
    await found.noted("run", 3)
    await found.settled("work")
    process.terminate()
    await process.ended()
    return found


def function(name: str = "work", subject: str = "orders.{k}", *options: str) -> str:
    told = "".join(f", {option}" for option in options)
    return f"""
        @consume("{subject}"{told})
        async def {name}(order: Order) -> None:
            note("run", id=order.id)
    """


def planned(shop: Shop, source: str, name: str) -> dict[str, Any]:
    shop.write(source)
    found: dict[str, Any] = next(
        each for each in shop.project.json("plan")["consumers"] if each["function"] == name
    )
    return found


async def test_a_new_name_would_run_everything_again_and_says_how_it_does_not(shop: Shop) -> None:
    plan = planned(shop, function("toil"), "toil")
    assert plan["action"] == "create"
    assert plan["note"] == (
        'toil is new and will run 3 stored messages; work is gone. Renamed? @consume(…, renamed_from="work"). '
        'New on purpose? deliver="new" leaves out what is stored'
    )
    text = shop.project.runner("plan").stdout
    assert plan["note"] in text
    assert "- consumer shop-work on ORDERS: no longer declared" in text
    kept = planned(shop, function("toil", "orders.{k}", 'renamed_from="work"'), "work")
    assert kept["action"] == "same"


async def test_a_misspelt_old_name_is_told(shop: Shop) -> None:
    plan = planned(shop, function("toil", "orders.{k}", 'renamed_from="wrok"'), "wrok")
    assert plan["note"].startswith(
        'toil is new and will run 3 stored messages; nothing on orders.* is of renamed_from="wrok"; work is gone.'
    )


async def test_another_name_of_the_project_is_told(shop: Shop) -> None:
    file = shop.project.root / "pyproject.toml"
    file.write_text(file.read_text().replace(f'name = "{shop.project.name}"', 'name = "store"'))
    plan = planned(shop, function(), "work")
    assert plan["note"] == (
        "work is new and will run 3 stored messages; the server holds its durable of project shop, "
        'and store starts over. Project renamed? [tool.jetrunner] name = "shop". '
        'New on purpose? deliver="new" leaves out what is stored'
    )


async def test_another_durable_or_mode_goes_on(shop: Shop) -> None:
    plan = planned(shop, function("work", "orders.{k}", 'durable="chosen"'), "work")
    assert (plan["action"], plan["note"]) == ("create", "work goes on where it has come with shop-work")
    plan = planned(shop, function("work", "orders.{k}", 'ordered_by="k"'), "work")
    assert (plan["action"], plan["note"]) == ("create", "work goes on where it has come with shop-work")


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("orders.>", "is more than it reads"),
        ("orders.1", "is less than it reads"),
        ("paid.{k}", ""),
    ],
)
async def test_another_subject_is_told_in_words(shop: Shop, subject: str, says: str) -> None:
    plan = planned(shop, function("work", subject), "work")
    assert says in plan["note"]
    assert plan["action"] == ("update" if says else "create")


async def test_a_first_run_says_how_much_is_there(shop: Shop) -> None:
    both = function() + function("other", "orders.{k}", 'name="other"')
    assert planned(shop, both, "other")["note"] == "what is stored will run: 3 messages"


async def test_another_subject_of_a_function_that_keeps_order_counts_from_now_on(
    nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]
) -> None:
    shop = Shop(js, nats_server.url, make_project)
    await shop.open(function("work", "orders.a.{k}", 'ordered_by="k"'))
    process = shop.run()
    await process.seen("owns 1 of 1 shard")
    process.terminate()
    await process.ended()
    plan = planned(shop, function("work", "orders.{t}.{k}", 'ordered_by="k"'), "work")
    assert plan["note"] == (
        "it keeps order and reads orders.a.* now: what else orders.*.* holds counts from then on, and not what came before"
    )
    assert plan["note"] in shop.project.runner("plan").stdout
    process = shop.run()
    await process.seen("work keeps order: it reads orders.*.* from now on, and read orders.a.* before")


async def test_a_refused_number_of_shards_makes_no_consumers_and_is_a_failure(
    nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]
) -> None:
    stream = 'name = "ORDERS"\nsubjects = ["orders.{k}"]\n[shards]\ncount = 4\nby = ["k"]\n'
    project = make_project(nats=nats_server.url, streams={"orders": stream})
    project.function("shop", IMPORTS + dedent(function("work", "orders.{k}", 'ordered_by="k"')))
    await project.applied()
    process = project.start("run")
    await process.seen("owns 4 of 4 shards")
    project.stream("orders", (project.root / "streams" / "orders.toml").read_text().replace("4", "8"))
    done = project.runner("plan")
    assert done.code == 1
    assert "run `runner shard resize ORDERS 8`" in done.stdout
    assert "consumer" not in done.stdout
