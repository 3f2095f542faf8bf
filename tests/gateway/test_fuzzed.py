"""schemathesis asks what the OpenAPI document says may be asked, and what it says may not: no answer is a server error.

It is installed by `just tools`; FUZZ_EXAMPLES=200 has it ask more.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.tools import tool

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "15")
WITHIN = 60 + 10 * int(EXAMPLES)
LEFT_OUT = (
    "positive_data_acceptance",  # functions have rules of their own, as that an airport exists
    "negative_data_rejection",  # a route into a stream takes any body: its function rejects it later
    "unsupported_method",  # an Ingress takes every method, and the document tells one
)
SHOP = """
    import datetime
    import enum
    from collections.abc import AsyncIterator
    from typing import Annotated, Any, Literal
    from uuid import UUID

    from msgspec import Meta, Struct
    from pydantic import BaseModel

    from runner import consume, reply, route

    class Item(Struct):
        name: str
        cents: Annotated[int, Meta(ge=0)] = 0

    class Kind(enum.Enum):
        A = "a"
        B = "b"

    class Order(Struct):
        id: UUID
        items: list[Item]
        kind: Literal["new", "again"] = "new"
        parent: "Order | None" = None
        day: datetime.date | None = None
        places: dict[str, float] = {}
        raw: bytes = b""
        pair: tuple[int, str] = (1, "")

    class Address(BaseModel):
        street: str
        country: str | None = None

    @route("GET", "/orders/{id}")
    async def order(
        id: UUID, *, expand: bool = False, tag: list[str] = [], kind: Kind = Kind.A, share: float = 1.0,
        day: datetime.date = datetime.date(2020, 1, 1),
    ) -> Order:
        return Order(id, [], day=day, places={"share": share})

    @route("POST", "/orders/{customer}", output="orders.{customer}.created")
    async def created(body: Order, customer: str) -> Order:
        return body

    @route("PUT", "/echo")
    async def echo(body: Order) -> Order:
        return body

    @route("PATCH", "/addresses/{number}")
    async def patched(number: int, body: Address) -> Address | None:
        return body if number else None

    @route("POST", "/files")
    async def upload(body: bytes) -> bytes:
        return body

    @route("POST", "/texts")
    async def told(body: str) -> str:
        return body

    @route("POST", "/any")
    def anything(body: Any) -> Any:
        return body

    @route("GET", "/events")
    async def events(*, most: Annotated[int, Meta(ge=0, le=5)] = 1) -> AsyncIterator[Item]:
        for _ in range(most):
            yield Item("a")

    @reply("stock.{sku}", idempotent=True)
    async def stock(sku: str) -> dict[str, str]:
        return {"sku": sku}

    @reply("quotes")
    async def quotes(body: Order | None = None) -> int:
        return 1

    @consume("orders.>")
    async def pack(body: Any) -> None:
        pass
"""
ROUTES = """
    http_docs = true
    [[tool.jetrunner.routes]]
    path = "/stock/{sku}"
    method = ["GET", "POST"]
    request = "stock.{sku}"
    [[tool.jetrunner.routes]]
    path = "/quotes"
    method = ["GET", "POST", "DELETE"]
    request = "quotes"
    [[tool.jetrunner.routes]]
    path = "/in/{customer}"
    publish = "orders.{customer}.in"
    idempotency = "required"
"""


@pytest.fixture
def schemathesis() -> str:
    return tool("schemathesis")


def shop(make_project: Callable[..., Project], server: NatsServer) -> Project:
    project = make_project(functions={"shop": SHOP}, nats=server.url)
    project.settings(ROUTES)
    project.stream("orders", 'name = "ORDERS"\nsubjects = ["orders.>"]\n')
    return project


def example(make_project: Callable[..., Project], server: NatsServer) -> Project:
    project = make_project(name="flights", nats=server.url)
    for folder in ("functions", "streams"):
        shutil.copytree(ROOT / folder, project.root / folder, dirs_exist_ok=True)
    manifest = (project.root / "functions" / "_data" / "ingress.yaml").read_text()
    without_host = manifest.replace("- host: flights.example.com\n      http:", "- http:")
    assert without_host != manifest
    (project.root / "ingress.yaml").write_text(without_host)  # schemathesis asks one host alone
    project.settings('http_docs = true\nroute_files = ["ingress.yaml"]\n')
    return project


@pytest.mark.timeout(WITHIN + 60)
@pytest.mark.parametrize("made", [example, shop], ids=lambda each: each.__name__)
async def test_nothing_that_may_be_asked_is_a_server_error(
    made: Callable[..., Project],
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    schemathesis: str,
) -> None:
    project, port = made(make_project, nats_server), free_port()
    await project.applied()
    running = project.start("run", "--http", f"127.0.0.1:{port}")
    await running.seen("ready: ", within=60)
    words = [
        schemathesis, "run", f"http://127.0.0.1:{port}/openapi.json", "--max-examples", EXAMPLES, "--seed", "1", "--no-shrink",
        "--continue-on-failure", "--phases", "coverage,fuzzing,stateful", "--checks", "all", "--exclude-checks", ",".join(LEFT_OUT),
    ]  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run, words, cwd=project.root, capture_output=True, text=True, timeout=WITHIN, check=False
    )
    told = "\n".join(done.stdout.splitlines()[-25:])
    print(told)
    assert done.returncode == 0, done.stdout
    assert "Server error" not in done.stdout
    cases = re.search(r"([\d,]+) generated", done.stdout)
    assert cases is not None, done.stdout
    assert int(cases[1].replace(",", "")) > 100
    assert running.running
