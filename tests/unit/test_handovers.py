"""What a split event's functions hand over, against what the next one takes: told where it cannot fit, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, TypedDict

import pytest
from msgspec import Struct

from runner import Context, consume, gather
from runner.bindings import Binding, binding_of
from runner.cli import handovers


class Line(Struct):
    name: str
    cents: int = 0


class Priced(Struct):
    name: str
    cents: int
    at: date | None = None


class Other(Struct):
    number: int


class Texts(Struct):
    name: str
    cents: str


class Renamed(Struct, rename={"title": "name"}):
    title: str


@dataclass
class Plain:
    name: str


class Typed(TypedDict):
    name: str


def bound(*functions: Any) -> list[Binding]:
    return [found for each in functions if (found := binding_of(each)) is not None]


@pytest.mark.parametrize(
    ("made", "taken", "why"),
    [
        (Line, Line, ""),
        (Priced, Line, ""),
        (Line, Priced, ""),
        (Plain, Line, ""),
        (Typed, Line, ""),
        (Line, Typed, ""),
        (Renamed, Line, ""),
        (Line | None, Line, ""),
        (dict[str, Any], Line, ""),
        (Line, dict[str, Any], ""),
        (Line, Any, ""),
        (Any, Line, ""),
        (Line, bytes, ""),
        (str, Line, ""),
        (Line, str, ""),
        (int, float, ""),
        (date, str, ""),
        (int | str, Line, ""),
        (Other, Line, "it has no 'name'"),
        (Plain, Renamed, ""),
        (Line, Renamed, ""),
        (Texts, Priced, "its 'cents' is a text, and not a number"),
        (int, Line, "a number is not an object"),
        (Line, int, "an object is not a number"),
        (list[int], Line, "a list is not an object"),
        (bool, list[int], "a truth value is not a list"),
    ],
)
def test_what_cannot_fit_is_told(made: Any, taken: Any, why: str) -> None:
    assert handovers.unfit(made, taken) == why


@consume("orders.{n}", output="lines.{n}")
async def split(order: dict[str, Any]) -> AsyncIterator[Line]:
    yield Line("a")


@consume("orders.{n}", output="lines.{n}")
def threaded(order: dict[str, Any]) -> Iterator[Other]:
    yield Other(1)


@consume("lines.{n}", output="priced.{n}")
async def price(line: Line) -> Priced | None:
    return None


@consume("lines.{n}", output="priced.{n}", batch=5)
async def many(lines: list[Line]) -> list[Other | None]:
    return [None]


@gather("priced.{n}", output="totals.{n}")
async def total(lines: list[Priced], ctx: Context) -> Other:
    return Other(1)


@consume("totals.{n}")
async def after(total: Line) -> None:
    """It is on no way to a gather."""


def test_what_fits_is_not_told() -> None:
    assert [*handovers.warnings(bound(split, price, total, after))] == []


def test_a_generator_whose_parts_the_next_function_cannot_take_is_told() -> None:
    assert [*handovers.warnings(bound(threaded, price, total))] == [
        "price takes Line from lines.{n}, and threaded, whose output goes there, yields Other: it has no 'name'"
    ]


def test_a_batch_on_the_way_is_told_by_its_elements() -> None:
    assert [*handovers.warnings(bound(split, many, total))] == [
        "total takes Priced from priced.{n}, and many, whose output goes there, makes Other: it has no 'name', 'cents'"
    ]


def test_what_no_generator_feeds_is_not_looked_at() -> None:
    assert [*handovers.warnings(bound(many, total))] == []
