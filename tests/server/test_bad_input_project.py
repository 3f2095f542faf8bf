"""A project that cannot run says so at once, names the place, and ends with 2; nothing is made on the server for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FINE = """
    @consume("orders.{id}")
    async def charge(order: Order) -> None: ...
"""


@pytest.fixture
def shop(nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]) -> Shop:
    return Shop(js, nats_server.url, make_project)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import nowhere_at_all", r"shop.py:LINE: .*nowhere_at_all"),
        ("def broken(:", r"shop.py:LINE"),
        ("raise RuntimeError('at import')", r"shop.py:LINE: .*at import"),
        ("sys.exit(0)", r"shop.py:LINE"),
        ('@consume("orders.{id}")\nasync def charge(a: int, b: int) -> None: ...', r"shop.py:LINE"),
        ('@consume("orders..{id}")\nasync def charge(a: int) -> None: ...', r"shop.py:LINE"),
        ('@consume("orders.{id}", tiemout=3)\nasync def charge(a: int) -> None: ...', r"shop.py:LINE"),
    ],
    ids=["import", "syntax", "raises", "exits", "two bodies", "subject", "option"],
)
async def test_functions_that_cannot_be_imported_are_named_by_file_and_line(
    shop: Shop, source: str, told: str
) -> None:
    await shop.open(source)
    text = (shop.project.root / "functions" / "shop.py").read_text()
    line = text[: text.index(source)].count("\n") + 1
    process = shop.run()
    await process.seen(f"^error: .*{told.replace('LINE', str(line))}")
    assert await process.ended() == 2
    assert "Traceback" not in process.output
    assert await shop.js.streams() == ["AUDIT", "ORDERS", "PAID"]


async def test_settings_with_a_typo_are_wrong_usage_with_a_hint(shop: Shop) -> None:
    await shop.open(FINE)
    shop.project.settings("drain_timout = 3")
    process = shop.run()
    assert await process.ended() == 2
    assert "drain_timout" in process.output
    assert "drain_timeout" in process.output
    shop.project.settings("drain_timeout = = 3")
    process = shop.run()
    assert await process.ended() == 2
    assert "pyproject.toml" in process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("decorator", "told"),
    [
        ('@consume("elsewhere.{id}")', "no stream captures"),
        ('@consume("*.{id}")', "stream"),
        ('@consume("orders.{id}", output="elsewhere.{id}")', "no stream captures"),
        ('@consume("orders.{id}", stream="NONE")', "NONE"),
    ],
)
async def test_a_subject_without_its_stream_is_an_error_with_place_and_hint(
    shop: Shop, decorator: str, told: str
) -> None:
    await shop.open(f"\n{decorator}\nasync def charge(order: Order) -> Order: ...")
    process = shop.run()
    assert await process.ended() == 2
    error, hint = (line for line in process.output.splitlines() if line.startswith(("error:", "hint:")))
    assert "shop.py:1" in error
    assert "charge" in error
    assert told in error
    assert hint
    assert await shop.js.consumers("ORDERS") == []


async def test_a_generator_whose_stream_takes_no_batches_is_refused_at_the_start(shop: Shop) -> None:
    await shop.open(
        """
        @consume("orders.{id}", output="paid.{id}")
        async def split(order: Order):
            yield order
        """,
        allow_atomic=False,
    )
    process = shop.run()
    await process.seen("^hint: .*allow_atomic")
    assert await process.ended() == 2


async def test_a_lifespan_that_fails_is_told_and_ends_the_process(shop: Shop) -> None:
    await shop.open(
        FINE
        + """
    @lifespan
    async def life():
        raise OSError("no database")
        yield
    """
    )
    file = shop.project.root / "functions" / "shop.py"
    line = 1 + next(i for i, text in enumerate(file.read_text().splitlines()) if "no database" in text)
    process = shop.run()
    await process.seen(f"^error: the lifespan failed: OSError: no database, at functions/shop.py:{line}$")
    assert await process.ended() == 2
