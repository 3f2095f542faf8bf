"""A project with every kind of function, for documents that tell what functions take and give."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

from msgspec import Meta, Struct
from pydantic import BaseModel

from runner import Context, consume, cron, gather, reply
from runner.bindings import Binding, binding_of
from runner.discovery import Project
from runner.routes import route


class Item(Struct):
    """One line of an order."""

    name: str
    cents: Annotated[int, Meta(ge=0)] = 0


class Order(Struct):
    id: UUID
    items: list[Item]
    kind: Literal["new", "again"] = "new"
    parent: Order | None = None


@dataclass
class Page:
    orders: list[Order]
    following: str | None = None


class Stock(TypedDict):
    sku: str
    left: int


class Address(BaseModel):
    street: str
    country: Country | None = None


class Country(BaseModel):
    code: str


class Odd:
    """A type that has no schema."""


@route("GET", "/orders/{id}")
async def order(id: UUID, ctx: Context, *, expand: bool = False, tag: list[str] = []) -> Order:  # noqa: A002, B006
    """Find an order.

    With its lines where `expand` says so.
    """
    raise NotImplementedError


@route("GET", "/orders", host="api.example.com")
async def orders(*, after: int, limit: Annotated[int, Meta(le=100)] = 10) -> Page:
    raise NotImplementedError


@route("POST", "/orders", output="orders.created")
async def created(body: Order) -> Order:
    return body


@route("PUT", "/addresses/{id}")
async def moved(id: str, body: Address) -> None:  # noqa: A002
    """Move somebody."""


@route("POST", "/files", auth="staff")
async def upload(body: bytes) -> bytes:
    return body


@route("GET", "/events")
async def events() -> AsyncIterator[Item]:
    yield Item("a")


@route("GET", "/odd")
async def odd() -> Odd:
    return Odd()


@route("GET", "/text")
def text() -> str:
    return "fine"


@reply("stock.{sku}")
async def stock(sku: str) -> Stock:
    """How many are left."""
    return {"sku": sku, "left": 1}


@reply("quotes")
async def quote(body: Order | None = None) -> int:
    return 1


@consume("orders.created", output="parcels.{token}".replace("{token}", "made"))
async def pack(body: Order) -> Item | None:
    return None


@consume("parcels.*")
async def ship(body: Any) -> None:
    del body


@consume("pages.{day}", output="lines.{day}")
def split(body: str, day: str) -> Iterator[Item]:
    yield Item(day)


@gather("lines.{day}", output="days.{day}")
async def joined(parts: list[Item]) -> Stock:
    return {"sku": "", "left": len(parts)}


@cron("@hourly", output="ticks")
async def tick() -> Item:
    return Item("tick")


ALL = (
    order,
    orders,
    created,
    moved,
    upload,
    events,
    odd,
    text,
    stock,
    quote,
    pack,
    ship,
    split,
    joined,
    tick,
)


def bindings() -> tuple[Binding, ...]:
    found = [binding_of(each) for each in ALL]
    return tuple(each for each in found if each is not None)


def project() -> Project:
    return Project(Path("/shop"), "shop", bindings(), version="1.2.3")
