from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import runner
from runner import Context, reply
from runner.bindings import binding_of
from runner.errors import BindingError


def test_a_binding_says_how_it_answers() -> None:
    @reply("quotes.{customer}", name="price", concurrency=3, timeout=2, idempotent=True)
    async def quote(body: dict[str, int], customer: str, ctx: Context) -> int:
        return 7

    found = binding_of(quote)
    assert found is not None
    assert (found.function, found.subject.wildcard, found.concurrency, found.timeout) == (
        "price",
        "quotes.*",
        3,
        2.0,
    )
    assert found.answers is not None
    assert found.answers.idempotent
    assert found.retry.attempts == 1
    assert (found.output, found.schedule, found.joins, found.batch) == (None, None, None, 0)


def test_it_has_as_many_slots_as_any_function() -> None:
    @reply("a.b")
    async def one() -> None: ...

    @reply("a.c")
    def two() -> None: ...

    assert [binding_of(each).concurrency for each in (one, two)] == [64, min(32, (os.cpu_count() or 1) + 4)]  # type: ignore[union-attr]
    assert not binding_of(one).answers.idempotent  # type: ignore[union-attr]


async def agen() -> AsyncIterator[int]:
    yield 1


def gen() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("generator", [agen, gen])
def test_a_generator_is_refused(generator: Any) -> None:
    with pytest.raises(BindingError, match="a request has one answer") as caught:
        reply("a.b")(generator)
    assert "return a tuple" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"subject": ">"}, "everybody"),
        ({"subject": "*.quotes"}, "everybody"),
        ({"subject": "jetrunner.x"}, "Jetrunner's own"),
        ({"subject": "parked.x"}, "Jetrunner's own"),
        ({"subject": "$SRV.PING"}, "NATS system"),
        ({"subject": "_INBOX.x"}, "NATS system"),
        ({"subject": "a..b"}, "empty token"),
        ({"subject": "a.b", "timeout": 0}, "timeout= is a number"),
        ({"subject": "a.b", "concurrency": 0}, "concurrency= is a whole number"),
        ({"subject": "a.b", "idempotent": 1}, "idempotent= is True or False"),
        ({"subject": "a.b", "name": "no-name"}, "is not a valid name"),
        ({"subject": 7}, "the subject is a string"),
    ],
)
def test_what_is_wrong_is_told_at_import(options: dict[str, Any], why: str) -> None:
    subject = options.pop("subject")

    async def quote() -> None: ...

    with pytest.raises(BindingError, match=why) as caught:
        reply(subject, **options)(quote)
    assert __file__ in str(caught.value)


def test_it_needs_a_subject() -> None:
    with pytest.raises(BindingError, match="reply needs a subject"):

        @runner.reply  # type: ignore[arg-type]
        async def quote() -> None: ...


def test_other_options_are_none() -> None:
    for option in ("output", "retry", "ordered_by", "batch", "stream", "durable", "max_age", "deliver"):
        with pytest.raises(TypeError, match=option):
            reply("a.b", **{option: "x"})  # type: ignore[arg-type]


def test_called_by_itself_it_is_the_function() -> None:
    @reply("twice.{number}")
    def twice(number: int) -> int:
        return number * 2

    assert twice(4) == 8
