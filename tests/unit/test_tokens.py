"""Subject tokens become what their parameter's annotation says."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NewType

import msgspec
import pytest

from runner.tokens import converter


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 2


CustomerId = NewType("CustomerId", int)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("annotation", "token", "value"),
    [
        (Any, "c1", "c1"),
        (str, "c1", "c1"),
        (bytes, "ü", "ü".encode()),
        (int, "7", 7),
        (int, "-7", -7),
        (int, "007", 7),
        (int, "9" * 30, int("9" * 30)),
        (CustomerId, "7", 7),
        (float, "1e3", 1000.0),
        (bool, "true", True),
        (bool, "0", False),
        (uuid.UUID, str(ID), ID),
        (Color, "red", Color.RED),
        (Level, "2", Level.HIGH),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (date, "2024-02-29", date(2024, 2, 29)),
        (datetime, "2024-02-29T01:02:03Z", datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)),
        (Decimal, "10", Decimal(10)),
        (int | None, "7", 7),
        (int | str, "c1", "c1"),
        (Annotated[int, msgspec.Meta(ge=5)], "5", 5),
    ],
)
def test_a_token_is_converted_to_its_annotation(annotation: Any, token: str, value: Any) -> None:
    converted = converter(annotation)(token)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("annotation", "token"),
    [
        (int, "seven"),
        (int, "1_0"),
        (int, "\uff17"),
        (int, "9" * 5_000),
        (bool, "maybe"),
        (uuid.UUID, "7"),
        (Color, "blue"),
        (Literal["a"], "b"),
        (date, "2024-02-30"),
        (Annotated[int, msgspec.Meta(ge=5)], "4"),
    ],
)
def test_a_token_that_is_no_such_value_is_a_value_error(annotation: Any, token: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        converter(annotation)(token)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "annotation", [list[str], dict[str, str], tuple[int, ...], msgspec.Struct, int | list[int]]
)
def test_what_no_token_can_become_is_a_type_error(annotation: Any) -> None:
    with pytest.raises(TypeError):
        converter(annotation)
