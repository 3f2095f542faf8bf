from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from msgspec import Struct

from runner import Context, Reject, Response, Retry, consume, route, testing
from runner.bindings import binding_of
from runner.errors import BindingError, UsageError


class Order(Struct):
    id: str
    cents: int = 0


@route("GET", "/orders/{number}")
async def find(
    number: int, ctx: Context, *, limit: int = 10, tag: list[str] | None = None, q: str | None = None
) -> Any:
    return {"id": number, "limit": limit, "tag": tag, "q": q, "subject": ctx.subject, "params": ctx.params}


@route("PUT", "/orders/{order_id}/lines", output="orders.{order_id}.changed")
async def change(order: Order, order_id: str, ctx: Context) -> Order | None:
    await ctx.publish("audit.orders", {"id": order_id})
    return order if order.cents else None


@route("POST", "/fail/{how}")
async def fail(how: str) -> Any:
    match how:
        case "reject":
            raise Reject("no such order")
        case "retry":
            raise Retry("the bank is closed", after=7)
        case "boom":
            raise RuntimeError("a secret of the inside")
        case "created":
            return Response({"id": 1}, status=201, headers={"Location": "/orders/1"})
    return None


def test_a_binding_says_what_it_answers() -> None:
    found = binding_of(find)
    assert found is not None
    assert found.route is not None
    assert (found.route.method, found.route.path, found.route.host) == ("GET", "/orders/{number}", None)
    assert (found.subject.text, found.consumes, found.reads_stream) == ("GET /orders/{number}", False, False)
    assert [each.name for each in found.signature.query] == ["limit", "tag", "q"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("get", "/a"), "the method is GET"),
        (("GET", "a"), "begins with a slash"),
        (("GET", "/a//b"), "a segment is empty"),
        (("GET", "/a/{x}y"), "a whole segment"),
        (("GET", "/a/{1}"), "does not hold an identifier"),
        (("GET", "/{a}/{a}"), "stands in it twice"),
        (("GET", "/a b"), "percent-encode"),
        (("GET", "/a?b"), "percent-encode"),
        (("GET", "/../b"), "no client asks for"),
    ],
)
def test_a_path_that_is_none_is_refused(arguments: tuple[str, str], message: str) -> None:
    async def handler() -> None: ...

    with pytest.raises(BindingError, match=message) as caught:
        route(*arguments)(handler)
    assert caught.value.file == __file__
    assert caught.value.line > 0


def test_what_no_client_could_send_is_refused() -> None:
    async def body(limit: int) -> None: ...
    async def unknown(order: Order, other: Order) -> None: ...
    async def odd(*, when: Order) -> None: ...
    async def token(name: Order) -> None: ...

    with pytest.raises(BindingError, match="a GET has none") as caught:
        route("GET", "/a")(body)
    assert "keyword-only" in caught.value.hint
    with pytest.raises(BindingError, match="'other' is not a token of the path") as caught:
        route("POST", "/a")(unknown)
    assert "keyword-only" in caught.value.hint
    with pytest.raises(BindingError, match="cannot become Order"):
        route("GET", "/a")(odd)
    with pytest.raises(BindingError, match="cannot become Order"):
        route("GET", "/{name}")(token)


def test_who_may_ask_is_one_name_or_several() -> None:
    for given, expected in (("staff", ("staff",)), (["staff", "partners"], ("staff", "partners")), ((), ())):

        async def handler() -> None: ...

        found = binding_of(route("GET", "/a", auth=given)(handler))
        assert found is not None
        assert found.route is not None
        assert found.route.auth == expected


def test_options_that_cannot_be_are_refused() -> None:
    async def handler() -> None: ...

    for options, message in (
        ({"host": "example.com:80"}, "without a port"),
        ({"host": "a.*.com"}, "without a port"),
        ({"auth": 1}, "auth= names authentications of the settings, not 1"),
        ({"auth": ["staff", ""]}, "auth= names authentications"),
        ({"output": "orders.{id}"}, "is not a token"),
        ({"timeout": 0}, "timeout"),
        ({"concurrency": 0}, "concurrency"),
    ):
        with pytest.raises(BindingError, match=message):
            route("GET", "/a", **options)(handler)
    with pytest.raises(BindingError, match="route needs a method and a path"):
        route(handler)  # type: ignore[arg-type]
    with pytest.raises(BindingError, match="route needs a method and a path"):
        route("/orders")
    with pytest.raises(BindingError, match="bound already"):
        route("GET", "/a")(consume("a.b")(handler))


async def test_tokens_and_query_become_arguments() -> None:
    done = await testing.deliver(find, "GET /orders/42?tag=a&tag=b&limit=3&other=1&q=%C3%A9+x")
    assert (done.outcome, done.code) == ("ack", 200)
    assert done.result == {
        "id": 42, "limit": 3, "tag": ["a", "b"], "q": "é x", "subject": "GET /orders/42", "params": {"number": "42"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/orders/x", "'number' in the path: int expected"),
        ("/orders/4?limit=many", "query parameter 'limit': int expected"),
        ("/orders/4?limit=1&limit=2", "query parameter 'limit' stands there 2 times"),
        ("/orders/4?q=%FF", "the query is not UTF-8"),
        ("/orders/4?" + "&".join("a=1" for _ in range(300)), "more than 200 fields"),
    ],
)
async def test_what_does_not_convert_is_422_and_named(target: str, message: str) -> None:
    done = await testing.deliver(find, "GET " + target)
    assert (done.outcome, done.code) == ("error", 422)
    assert message in done.message


async def test_a_query_parameter_without_a_default_has_to_be_there() -> None:
    @route("GET", "/a")
    async def need(*, first: str, several: Sequence[int] = ()) -> Any:
        return [first, several]

    assert (await testing.deliver(need)).message == "query parameter 'first' is missing"
    assert (await testing.deliver(need, "/a?first=")).reply == b'["",[]]'
    assert (await testing.deliver(need, "/a?first=1&several=1&several=2")).reply == b'["1",[1,2]]'


async def test_outputs_and_what_was_published_are_told() -> None:
    done = await testing.deliver(change, "PUT /orders/o-1/lines", Order("o-1", 7))
    assert (done.code, [each.subject for each in done.outputs]) == (
        202,
        ["audit.orders", "orders.o-1.changed"],
    )
    none = await testing.deliver(change, "PUT /orders/o-1/lines", Order("o-1"))
    assert (none.code, [each.subject for each in none.outputs]) == (204, ["audit.orders"])
    wrong = await testing.deliver(change, "PUT /orders/o-1/lines", b"{")
    assert (wrong.code, wrong.outputs) == (400, ())


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("reject", 422, "no such order"),
        ("retry", 503, "the bank is closed"),
        ("boom", 500, "the function failed"),
        ("created", 201, ""),
        ("none", 204, ""),
    ],
)
async def test_how_a_handler_ends_is_a_status(how: str, code: int, message: str) -> None:
    done = await testing.deliver(fail, f"POST /fail/{how}")
    assert (done.code, done.message) == (code, message)


async def test_a_generator_without_output_makes_events() -> None:
    @route("GET", "/ticks")
    async def ticks() -> AsyncIterator[Any]:
        yield {"n": 1}
        yield "two\nlines"

    done = await testing.deliver(ticks)
    assert (done.code, done.reply) == (200, b'data: {"n":1}\n\ndata: two\ndata: lines\n\n')


async def test_another_target_is_no_request_of_the_function() -> None:
    for target in ("POST /orders/4", "/orders", "/orders/"):
        with pytest.raises(UsageError, match="answers GET"):
            await testing.deliver(find, target)
    with pytest.raises(UsageError, match="many paths"):
        await testing.deliver(find)
