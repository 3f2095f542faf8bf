"""Binding a function: what is attached, and every way to get it wrong."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Annotated, Any

import pytest
from msgspec import Struct

from runner import Context, RetryPolicy, arguments, consume, lifespan
from runner.bindings import Binding, binding_of, bound_in, is_wrapped
from runner.errors import BindingError
from runner.lifespans import is_lifespan


class Order(Struct):
    id: str
    cents: int


def bound(function: Callable[..., Any]) -> Binding:
    binding = binding_of(function)
    assert binding is not None
    return binding


def test_the_decorator_returns_the_very_same_function() -> None:
    async def charge(order: Order) -> None: ...

    assert consume("orders.created")(charge) is charge
    assert bound(charge).handler is charge


async def test_a_bound_handler_is_called_like_any_function() -> None:
    @consume("orders.{customer}.created")
    async def charge(order: Order, customer: str, ctx: Context | None = None) -> str:
        return f"{customer} pays {order.cents}"

    assert await charge(Order("o1", 5), "c1") == "c1 pays 5"


@pytest.mark.parametrize(
    "annotation",
    [
        Context[Order],
        Context[dict[str, int]],
        Context[Order] | None,
        Annotated[Context[Order], "of the shop"],
        "Context[Order]",
    ],
)
def test_the_context_may_say_what_the_state_is(annotation: Any) -> None:
    async def charge(order: Order, customer: str, ctx: Any) -> None: ...

    charge.__annotations__["ctx"] = annotation
    consume("orders.{customer}.created")(charge)
    signature = bound(charge).signature
    assert signature.context == "ctx"
    assert signature.body is not None
    assert signature.body.name == "order"


def test_a_binding_keeps_what_it_was_told() -> None:
    policy = RetryPolicy(attempts=8, delay=2)

    @consume(
        "orders.{customer}.created",
        name="billing",
        output="payments.{customer}.charged",
        retry=policy,
        concurrency=3,
        timeout=5,
        max_age=60,
        deliver="new",
        stream="ORDERS",
        durable="old-name",
    )
    async def charge(order: Order, customer: str, ctx: Context) -> Order:
        return order

    binding = bound(charge)
    assert (binding.function, binding.subject.wildcard) == ("billing", "orders.*.created")
    assert binding.output is not None
    assert binding.output.text == "payments.{customer}.charged"
    assert (binding.retry, binding.concurrency, binding.timeout, binding.max_age) == (policy, 3, 5.0, 60.0)
    assert (binding.deliver, binding.stream, binding.durable) == ("new", "ORDERS", "old-name")
    assert binding.signature.body is not None
    assert (binding.signature.body.name, binding.signature.body.annotation) == ("order", Order)
    assert (binding.signature.tokens, binding.signature.context) == ((("customer", str),), "ctx")


def test_the_defaults_are_those_of_the_documentation() -> None:
    @consume("orders.created")
    async def charge(order: Order) -> None: ...

    binding = bound(charge)
    assert (binding.function, binding.concurrency, binding.timeout) == ("charge", 64, 30.0)
    assert (binding.retry, binding.max_age, binding.deliver) == (RetryPolicy(), None, "all")
    assert (binding.output, binding.stream, binding.durable) == (None, None, None)


def test_a_binding_is_frozen() -> None:
    @consume("orders.created")
    async def charge(order: Order) -> None: ...

    with pytest.raises(AttributeError):
        bound(charge).timeout = 1.0  # type: ignore[misc]  # what is tested


def test_a_function_without_decorator_has_no_binding() -> None:
    assert binding_of(test_a_function_without_decorator_has_no_binding) is None
    assert binding_of(object()) is None


@consume("a")
async def coroutine(body: Any) -> None: ...


@consume("a")
def plain(body: Any) -> None: ...


@consume("a", output="b")
async def items(body: Any) -> AsyncIterator[int]:
    yield 1


@consume("a", output="b")
def plain_items(body: Any) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (coroutine, "async"),
        (plain, "thread"),
        (items, "async_generator"),
        (plain_items, "thread_generator"),
    ],
)
def test_the_kind_of_function_says_how_it_runs(handler: Callable[..., Any], kind: str) -> None:
    assert bound(handler).kind == kind


def test_a_plain_wrapper_around_an_async_function_is_async() -> None:
    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @consume("orders.created")
    @traced
    async def charge(order: Order) -> None: ...

    assert bound(charge).kind == "async"
    assert bound(charge).signature.body is not None
    assert bound(charge).signature.body.annotation is Order  # type: ignore[union-attr]  # asserted above


def test_a_handler_may_take_nothing_at_all() -> None:
    @consume("orders.{customer}")
    async def count() -> None: ...

    assert bound(count).signature.body is None


def test_the_body_is_the_first_parameter_that_is_neither_context_nor_token() -> None:
    @consume("orders.{customer}.{number}")
    async def charge(ctx: Annotated[Context, "mine"], number: int, order: Order) -> None: ...

    signature = bound(charge).signature
    assert signature.body is not None
    assert signature.body.name == "order"
    assert signature.tokens == (("number", int),)
    assert signature.context == "ctx"


def test_a_body_class_may_be_defined_further_down() -> None:
    @consume("orders.created")
    async def charge(order: Later) -> None: ...

    body = bound(charge).signature.body
    assert body is not None
    assert body.annotation is Later
    assert binding_of(charge) is binding_of(charge)


def test_a_field_of_the_body_may_be_defined_further_down() -> None:
    @consume("orders.created")
    async def charge(order: Sooner) -> None: ...

    bind = arguments.compile_call(bound(charge)).bind
    assert bind(b"orders.created", b'{"later":{"number":1}}', False, None) == (Sooner(Later(1)),)


class Sooner(Struct):
    later: Later


class Later(Struct):
    number: int


def test_a_name_that_is_never_defined_is_an_error_when_the_binding_is_read() -> None:
    @consume("orders.created")
    async def charge(order: Ordr) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # what is tested

    with pytest.raises(
        BindingError, match=r"test_bindings\.py:\d+: parameter 'order': name 'Ordr' is not defined"
    ):
        binding_of(charge)


def test_a_wrong_return_annotation_does_not_matter() -> None:
    @consume("orders.created")
    async def charge(order: Order) -> Nothing: ...  # type: ignore[name-defined]  # noqa: F821  # what is tested

    assert bound(charge).signature.body is not None


def refusal(
    subject: Any = "orders.{customer}", handler: Callable[..., Any] | None = None, **options: Any
) -> str:
    """The error of a binding, which must name this file and the handler's line."""

    async def charge(order: Order) -> None: ...

    function = handler or charge
    with pytest.raises(BindingError) as caught:
        consume(subject, **options)(function)
    assert caught.value.file == __file__
    assert caught.value.line == inspect.unwrap(function).__code__.co_firstlineno
    assert str(caught.value).startswith(f"{__file__}:{caught.value.line}: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subject": ""}, "it is empty"),
        ({"subject": "a..b"}, "empty token"),
        ({"subject": "a b"}, "whitespace"),
        ({"subject": "a.>.b"}, "> must be the last"),
        ({"subject": "a.{x}.{x}"}, "appears twice"),
        ({"subject": "a.{1x}"}, "does not hold an identifier"),
        ({"subject": "$JS.API"}, "belongs to the NATS system"),
        ({"subject": 5}, "the subject is a string, not 5"),
        ({"output": "payments.{custmer}"}, "{custmer} is not a token of the subject"),
        ({"output": "payments.*"}, "bare wildcard"),
        ({"output": "payments.>"}, "bare wildcard"),
        ({"output": "payments..x"}, "empty token"),
        ({"output": 5}, "output= is a string"),
        ({"name": "no-identifier"}, "is not a valid name"),
        ({"name": ""}, "is not a valid name"),
        ({"name": "größe"}, "is not a valid name"),
        ({"name": "x" * 101}, "is not a valid name"),
        ({"retry": 5}, "retry= is a RetryPolicy"),
        ({"concurrency": 0}, "concurrency= is a whole number"),
        ({"concurrency": True}, "concurrency= is a whole number"),
        ({"concurrency": 1.5}, "concurrency= is a whole number"),
        ({"timeout": 0}, "timeout= is a number of seconds over 0"),
        ({"timeout": float("nan")}, "timeout= is a number of seconds over 0"),
        ({"timeout": float("inf")}, "timeout= is a number of seconds over 0"),
        ({"timeout": "30s"}, "timeout= is a number of seconds over 0"),
        ({"timeout": None}, "timeout= is a number of seconds over 0"),
        ({"max_age": -1}, "max_age= is a number of seconds over 0"),
        ({"deliver": "last"}, "deliver= is 'all' or 'new'"),
        ({"stream": "a.b"}, "stream= may hold"),
        ({"durable": "a b"}, "durable= may hold"),
        ({"on_exhausted": "explode"}, "on_exhausted= is 'dead_letter' or 'park'"),
        ({"on_exhausted": "park"}, 'on_exhausted="park" holds back the later messages of a key'),
        ({"ordered_by": "client"}, "{client} is not a token of the subject 'orders.{customer}'"),
        ({"ordered_by": ("customer", "customer")}, "names a token twice"),
        ({"ordered_by": ()}, "ordered_by= is a token of the subject or a tuple of tokens"),
        ({"ordered_by": ["customer"]}, "ordered_by= is a token of the subject or a tuple of tokens"),
        ({"ordered_by": "customer", "durable": "mine"}, "durable= names one consumer"),
        ({"batch": 0}, "batch= is a whole number of 1 or more"),
        ({"batch": 10_001}, "batch= is at most 10,000"),
        ({"batch": 10}, "takes a list, one element for each message"),
        ({"linger": 1.0}, "it needs batch="),
        ({"batch_by": "table"}, "batch_by= is 'key' or 'shard'"),
        ({"batch_by": "shard"}, "says which messages are in an ordered batch, and there is none"),
        ({"executor": "thread"}, "executor= is None or 'process'"),
        ({"executor": "process", "batch": 10}, "one message at a time"),
    ],
)
def test_a_wrong_option_is_refused_at_import(options: dict[str, Any], message: str) -> None:
    assert message in refusal(**options)


def test_a_key_is_one_token_of_the_subject_or_several() -> None:
    @consume("orders.{customer}.{kind}", ordered_by="kind")
    async def one(order: Order) -> None: ...

    @consume("orders.{customer}.{kind}", ordered_by=("kind", "customer"), on_exhausted="park")
    async def several(order: Order) -> None: ...

    assert bound(one).ordered_by == ("kind",)
    assert (bound(several).ordered_by, bound(several).on_exhausted) == (("kind", "customer"), "park")


class Plain:
    """No type that a body can be decoded to."""


def takes_two_bodies(order: Order, other: Order) -> None: ...
def misspells_a_token(order: Order, custmer: str) -> None: ...
def misspells_a_token_with_default(order: Order, custmer: str = "x") -> None: ...
def forgets_the_context_annotation(order: Order, ctx) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
def takes_two_contexts(order: Order, ctx: Context, other: Context) -> None: ...
def names_the_context_like_a_token(customer: Context) -> None: ...
def takes_a_list(orders: list[Order]) -> None: ...
def takes_a_bare_list(orders: list) -> None: ...  # type: ignore[type-arg]
def takes_a_sequence(orders: Sequence[Order] | None) -> None: ...
def takes_anything(*orders: Order) -> None: ...
def takes_any_keyword(order: Order, **rest: Any) -> None: ...
def takes_by_position(order: Order, /) -> None: ...
def takes_a_plain_class(order: Plain) -> None: ...
def takes_a_plain_class_inside(order: dict[str, Plain]) -> None: ...
def takes_an_ambiguous_union(order: Order | Sooner) -> None: ...
def takes_a_struct_for_a_token(body: Any, customer: Order) -> None: ...
def takes_a_list_for_a_token(body: Any, customer: list[str]) -> None: ...
def is_annotated_with_nonsense(order: "1 +") -> None: ...  # type: ignore[valid-type]  # noqa: F722
async def yields_without_output(order: Order) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (takes_two_bodies, "'order' takes the body already"),
        (misspells_a_token, "parameter 'custmer' is not a token"),
        (misspells_a_token_with_default, "parameter 'custmer' is not a token"),
        (forgets_the_context_annotation, "parameter 'ctx' is not a token"),
        (takes_two_contexts, "both take the context"),
        (names_the_context_like_a_token, "also a token"),
        (takes_a_list, "a list body needs batch="),
        (takes_a_bare_list, "a list body needs batch="),
        (takes_a_sequence, "a list body needs batch="),
        (takes_anything, "takes anything"),
        (takes_any_keyword, "takes anything"),
        (takes_by_position, "positional-only"),
        (takes_a_plain_class, "Plain is not a type that a body is decoded to"),
        (takes_a_plain_class_inside, "Plain is not a type that a body is decoded to"),
        (takes_an_ambiguous_union, "must be tagged"),
        (takes_a_struct_for_a_token, "a subject token cannot become Order"),
        (takes_a_list_for_a_token, "a subject token cannot become list[str]"),
        (is_annotated_with_nonsense, "parameter 'order'"),
        (yields_without_output, "a generator needs output="),
        (lambda order: None, "is not a valid name"),
    ],
)
def test_a_wrong_signature_is_refused_at_import(handler: Callable[..., Any], message: str) -> None:
    assert message in refusal(handler=handler)


def test_a_misspelt_token_is_told_its_right_name() -> None:
    with pytest.raises(BindingError) as caught:
        consume("orders.{customer}")(misspells_a_token)
    assert caught.value.hint == "did you mean 'customer'?"


def test_only_functions_can_be_bound() -> None:
    for thing in (Order, functools.partial(takes_two_bodies), print):
        with pytest.raises(BindingError, match="only a function can be bound") as caught:
            consume("orders")(thing)
        assert (caught.value.file, caught.value.line > 0) == (__file__, True)


def test_a_method_cannot_be_bound() -> None:
    with pytest.raises(BindingError, match="is a method"):

        class Handlers:
            @consume("orders")
            async def charge(self, order: Order) -> None: ...


def test_a_function_has_one_binding() -> None:
    with pytest.raises(BindingError, match="bound already"):

        @consume("a")
        @consume("b")
        async def charge(order: Order) -> None: ...


def test_the_parentheses_cannot_be_forgotten() -> None:
    with pytest.raises(BindingError, match=r"test_bindings\.py:\d+: consume needs a subject"):

        @consume  # type: ignore[arg-type]  # what is tested
        async def charge(order: Order) -> None: ...


def test_a_wrapper_that_copied_a_binding_is_found_out() -> None:
    @consume("a")
    async def charge(order: Order) -> None: ...

    @functools.wraps(charge)
    async def wrapper(*args: Any) -> None: ...

    assert is_wrapped(wrapper)
    assert not is_wrapped(charge)


def test_a_module_remembers_functions_whose_name_was_taken_over() -> None:
    source = """
from runner import consume
@consume("a")
async def charge(order): ...
@consume("b")
async def charge(order): ...
"""
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    assert [bound(function).subject.text for function in bound_in(namespace)] == ["a", "b"]


def test_a_lifespan_is_marked_and_stays_itself() -> None:
    async def state() -> AsyncIterator[str]:
        yield "ready"

    assert lifespan(state) is state
    assert is_lifespan(state)
    assert not is_lifespan(coroutine)


def test_a_lifespan_that_is_no_async_generator_is_refused() -> None:
    async def no_generator() -> None: ...

    async def needs(something: str) -> AsyncIterator[None]:
        yield

    with pytest.raises(BindingError, match="is an async generator"):
        lifespan(no_generator)  # type: ignore[type-var]  # what is tested
    with pytest.raises(BindingError, match="takes no parameters"):
        lifespan(needs)  # type: ignore[type-var]  # what is tested
