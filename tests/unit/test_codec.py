"""Bodies in and out: every kind of type, and errors that keep the body to themselves."""

from __future__ import annotations

import dataclasses
import gc
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, NewType, Required, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass as pydantic_dataclass

from runner import Context, arguments, codec, consume
from runner.arguments import Call
from runner.bindings import binding_of
from runner.codec import DecodeError, EncodeError, decoder, encode
from runner.testing import context

SECRET = "s3cret"


class Order(msgspec.Struct):
    id: str
    cents: int


@dataclasses.dataclass
class OrderData:
    id: str
    cents: int


class OrderDict(TypedDict, total=False):
    id: Required[str]
    cents: Required[int]


@attrs.define
class OrderAttrs:
    id: str
    cents: int


class OrderModel(pydantic.BaseModel):
    id: str
    cents: int


@pydantic_dataclass
class OrderModelData:
    id: str
    cents: int


class Color(Enum):
    RED = "red"


class Mode(StrEnum):
    FAST = "fast"


BODY = b'{"id":"o1","cents":5}'
PACKED = msgspec.msgpack.encode({"id": "o1", "cents": 5})
OrderId = NewType("OrderId", str)


@pytest.mark.parametrize("cls", [Order, OrderData, OrderDict, OrderAttrs, OrderModel, OrderModelData])
def test_every_kind_of_class_is_decoded_and_encoded_again(cls: Callable[..., Any]) -> None:
    order = cls(id="o1", cents=5)
    decode = decoder(cls)
    assert decode(BODY, False) == order
    assert decode(PACKED, True) == order
    assert msgspec.json.decode(encode(order)) == {"id": "o1", "cents": 5}
    assert msgspec.msgpack.decode(encode(order, msgpack=True)) == {"id": "o1", "cents": 5}


@pytest.mark.parametrize(
    ("annotation", "body", "value"),
    [
        (Any, b'{"a":[1,null]}', {"a": [1, None]}),
        (object, b"[1]", [1]),
        (dict, b'{"a":1}', {"a": 1}),
        (dict[str, int], b'{"a":1}', {"a": 1}),
        (tuple[int, ...], b"[1,2]", (1, 2)),
        (int, b"5", 5),
        (float, b"5", 5.0),
        (bool, b"true", True),
        (None, b"null", None),
        (int | None, b"null", None),
        (Literal["a", 1], b"1", 1),
        (Color, b'"red"', Color.RED),
        (Mode, b'"fast"', Mode.FAST),
        (Decimal, b'"1.10"', Decimal("1.10")),
        (date, b'"2024-02-29"', date(2024, 2, 29)),
        (datetime, b'"2024-02-29T01:02:03Z"', datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)),
        (Annotated[int, msgspec.Meta(ge=5)], b"5", 5),
        (Order | None, BODY, Order("o1", 5)),
        (OrderModel | None, b"null", None),
        (OrderModel | int, b"3", 3),
        (dict[str, OrderModel], b'{"a":' + BODY + b"}", {"a": OrderModel(id="o1", cents=5)}),
        (str, b"not json", "not json"),
        (str, "größe".encode(), "größe"),
        (str | None, b"null", "null"),
        (OrderId, b"o1", "o1"),
        (Annotated[str, msgspec.Meta(max_length=2)], b"o1", "o1"),
        (bytes, b"\x00\xff", b"\x00\xff"),
        (bytes | None, b"\x00", b"\x00"),
        (bytearray, b"\x00", bytearray(b"\x00")),
    ],
)
def test_a_body_is_decoded_to_its_annotation(annotation: Any, body: bytes, value: Any) -> None:
    decoded = decoder(annotation)(body, False)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("annotation", [Any, Order, OrderModel, str, bytes, int | None])
def test_an_empty_body_is_the_default_or_an_error(annotation: Any) -> None:
    with pytest.raises(DecodeError, match="^empty body$"):
        decoder(annotation)(b"", False)
    assert decoder(annotation, None)(b"", False) is None
    assert decoder(annotation, "default")(b"", True) == "default"


class Line(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    day: date
    price: int = pydantic.Field(alias="unitPrice")


class Basket(msgspec.Struct):
    first: Line
    others: list[Line] = []
    last: Line | None = None


def test_models_inside_a_struct_are_read_and_written_by_pydantic() -> None:
    line = Line(day=date(2024, 2, 29), unitPrice=5)
    basket = Basket(line, [line], line)
    body = encode(basket)
    assert msgspec.json.decode(body)["first"] == {"day": "2024-02-29", "unitPrice": 5}
    assert decoder(Basket)(body, False) == basket


def test_models_inside_a_packed_struct_are_read_and_written_by_pydantic() -> None:
    class Box(msgspec.Struct):
        order: OrderModel

    box = Box(OrderModel(id="o1", cents=5))
    assert decoder(Box)(encode(box, msgpack=True), True) == box


@pytest.mark.parametrize(
    ("annotation", "body", "message"),
    [
        (Order, b'{"id":"o1"}', "Object missing required field `cents`"),
        (Order, b'{"id":"o1","cents":"s3cret"}', "Expected `int`, got `str` - at `$.cents`"),
        (Order, b"{", "Input data was truncated"),
        (Color, b'"s3cret"', "Invalid enum value"),
        (dict[str, Color], b'{"a":"s3cret"}', "Invalid enum value - at `$[...]`"),
        (OrderModel, b'{"id":"o1","cents":"s3cret"}', "Input should be a valid integer"),
        (OrderModel, b'{"s3cret', "Invalid JSON"),
        (Basket, b'{"first":{"day":"s3cret","unitPrice":1}}', "Input should be a valid date"),
        (str, b"s3cret\xff", "not UTF-8: invalid start byte at byte 6"),
        (Any, b'"s3cret\xff"', "UTF-8"),  # msgspec 0.23 has words of its own for it
        (Any, b"[" * 1_000_000, "nested too deep"),
        (int, b"9" * 5_000, "Integer value out of range"),
    ],
)
def test_an_error_says_what_is_wrong_without_the_body(annotation: Any, body: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decoder(annotation)(body, False)
    assert message in str(caught.value)
    _assert_silent(caught.value)


def _assert_silent(error: BaseException) -> None:
    """Neither the text nor what a traceback would print holds the body."""
    assert SECRET not in repr(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not any(isinstance(held, BaseException) for held in gc.get_referents(error))


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


def test_an_unknown_tag_is_not_repeated() -> None:
    annotation = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    assert decoder(annotation)(b'{"kind":"cat"}', False) == Cat(kind="cat")
    with pytest.raises(DecodeError, match="Unknown tag") as caught:
        decoder(annotation)(b'{"kind":"s3cret"}', False)
    _assert_silent(caught.value)


class Checked(msgspec.Struct, forbid_unknown_fields=True):
    value: str

    def __post_init__(self) -> None:
        raise KeyError(self.value)


def test_whatever_validation_raises_is_a_decode_error_without_its_text() -> None:
    with pytest.raises(DecodeError, match="^KeyError in the type's own validation$") as caught:
        decoder(Checked)(b'{"value":"s3cret"}', False)
    _assert_silent(caught.value)


def test_an_error_stays_short_whatever_the_body() -> None:
    with pytest.raises(DecodeError) as caught:
        decoder(Checked)(b'{"' + b"x" * 100_000 + b'":1}', False)
    assert len(str(caught.value)) <= 300


@given(st.binary(max_size=200), st.booleans())
def test_no_body_raises_anything_else(body: bytes, msgpack: bool) -> None:
    for decode in DECODERS:
        with suppress(DecodeError):
            decode(body, msgpack)


DECODERS = [decoder(annotation) for annotation in (Any, Order, OrderModel, Basket, str, Color)]


class Shapeless:
    """No type that can be sent."""


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (b"\x00", b"\x00"),
        (bytearray(b"\x00"), b"\x00"),
        (memoryview(b"\x00"), b"\x00"),
        ("größe", "größe".encode()),
        (Mode.FAST, b"fast"),
        (None, b"null"),
        ([Order("o1", 5)], b"[" + BODY + b"]"),
        ([OrderModel(id="o1", cents=5)], b"[" + BODY + b"]"),
        ({"id": uuid.UUID(int=0)}, b'{"id":"00000000-0000-0000-0000-000000000000"}'),
    ],
)
def test_a_value_is_sent_as_bytes_text_or_json(value: Any, body: bytes) -> None:
    assert encode(value) == body


@pytest.mark.parametrize("value", [Shapeless(), {"a": Shapeless()}, "\ud800", {(1, 2): 3}, 2j])
def test_what_cannot_be_sent_is_an_encode_error(value: Any) -> None:
    with pytest.raises(EncodeError, match="cannot be encoded"):
        encode(value)


def test_what_holds_itself_cannot_be_sent() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError):
        encode(loop)


def call(handler: Callable[..., Any]) -> Call:
    binding = binding_of(handler)
    assert binding is not None
    return arguments.compile_call(binding)


def test_what_a_handler_of_the_body_alone_cannot_be_given_is_explained_as_a_decode_error() -> None:
    @consume("orders.{customer}")
    async def charge(order: Order) -> None: ...

    bind = call(charge).bind
    assert bind(b"orders.c1", BODY, False, None) == (Order("o1", 5),)
    with pytest.raises(msgspec.ValidationError) as caught:
        bind(b"orders.c1", b'{"id":1}', False, None)
    assert isinstance(codec.explain(caught.value), DecodeError)


async def test_arguments_stand_as_the_handler_takes_them() -> None:
    @consume("orders.{customer}.{number}")
    async def charge(number: int, order: Order, ctx: Context) -> None: ...

    @consume("orders.{customer}")
    async def keyword(order: Order, *, ctx: Context, customer: str) -> tuple[Any, ...]:
        return order, ctx, customer

    @consume("orders.>")
    async def nothing() -> None: ...

    ctx = context()
    assert list(call(charge).bind(b"orders.c1.007", BODY, False, ctx)) == [7, Order("o1", 5), ctx]
    assert call(charge).bind(b"orders.c1.7", PACKED, True, ctx)[1] == Order("o1", 5)
    compiled = call(keyword)
    arguments = compiled.bind(b"orders.c1", BODY, False, ctx)
    assert await compiled.handler(*arguments) == (Order("o1", 5), ctx, "c1")
    assert list(call(nothing).bind(b"orders.x", b"\xff not looked at", False, ctx)) == []


def test_an_empty_body_is_bound_to_the_parameters_default() -> None:
    @consume("orders")
    async def charge(order: Order | None = None) -> None: ...

    assert call(charge).bind(b"orders", b"", False, None) == (None,)


def test_a_token_that_does_not_convert_is_a_decode_error() -> None:
    @consume("orders.{number}")
    async def charge(order: Order, number: int) -> None: ...

    with pytest.raises(DecodeError, match="token 'number': int expected"):
        call(charge).bind(b"orders.seven", BODY, False, None)
    with pytest.raises(DecodeError, match="has no token for 'number'"):
        call(charge).bind(b"orders", BODY, False, None)
