"""A function or a project that was renamed without a word: the log says before anything runs what will run again."""

from __future__ import annotations

import pytest

from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
    @consume("orders.{{id}}"{options})
    async def {name}(order: Order, ctx: Context) -> None:
        note("run", id=order.id)
"""


def function(name: str, options: str = "") -> str:
    return SOURCE.format(name=name, options=options)


async def ran(shop: Shop, options: str = "") -> None:
    await shop.open(function("work", options))
    await shop.order(*range(3))
    process = shop.run()
    await shop.noted("run", 3)
    process.terminate()
    await process.ended()


@pytest.mark.parametrize("options", ["", ', ordered_by="id"'])
async def test_a_new_name_of_a_function_is_told_before_it_runs(shop: Shop, options: str) -> None:
    await ran(shop, options)
    shop.write(function("toil", options))
    process = shop.run()
    told = await process.seen("toil is new and will run 3 stored messages; work is gone")
    assert 'renamed_from="work"' in told
    await process.seen("ready: toil")
    process.terminate()
    await process.ended()
    again = shop.run()
    await again.seen("ready: toil")
    assert "is new" not in again.output
    again.terminate()
    await again.ended()


async def test_a_new_name_of_the_project_is_told_before_it_runs(shop: Shop) -> None:
    await ran(shop)
    file = shop.project.root / "pyproject.toml"
    file.write_text(file.read_text().replace(f'name = "{shop.project.name}"', 'name = "store"'))
    process = shop.run()
    await process.seen(f"the server holds its durable of project {shop.project.name}, and store starts over")
    process.terminate()
    await process.ended()


async def test_what_is_new_or_was_there_is_not_told(shop: Shop) -> None:
    await ran(shop)
    shop.write(function("work") + function("toil"))
    process = shop.run()
    await process.seen("ready: work, toil")
    assert "is new" not in process.output
    await shop.noted("run", 6)
    process.terminate()
    await process.ended()
