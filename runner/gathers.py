"""`@gather`: a function that is called once with all parts of a split event."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec import structs

from runner import arguments, options, signature
from runner.bindings import Binding, attach, local_names, place_of
from runner.context import Context
from runner.core.gather import Joins
from runner.core.retry import RetryPolicy
from runner.core.subject import overlaps
from runner.errors import BindingError

F = TypeVar("F", bound=Callable[..., Any])


def gather(
    subject: str,
    *,
    name: str | None = None,
    output: str | None = None,
    expires: float = 3600.0,
    retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
    timeout: float = 30.0,
    max_bytes: int | str = options.JOINED_BYTES,
    stream: str | None = None,
) -> Callable[[F], F]:
    """Call a function once with all parts of a split event: a list, in the order in which a generator has yielded them.

    A generator with `output=` splits its message into parts. A function that makes one output of a part passes on the part's
    place, so that parts may go through several functions. `expires` seconds after the first part has come, the function is called
    even if parts are missing: they were given up on their way, or a function returned None for them. `ctx.missing` has their
    indexes. Parts that come later are dropped. A call that fails is tried again by `retry`; if it is given up, it is a dead
    letter, and its redrive runs the function with the same parts. `max_bytes` limits the parts of one event together. `timeout`
    is in seconds. BindingError when something is wrong, at import.
    """
    if callable(subject):
        file, line = place_of(subject, inspect.currentframe())
        raise BindingError(
            "gather needs a subject", file=file, line=line, hint='write @gather("lines.*.done")'
        )

    def decorate(function: F) -> F:
        file, line = place_of(function, inspect.currentframe())
        namespace = local_names(inspect.currentframe())

        def complete() -> Binding:
            label = options.label(name, function)
            source = options.template("the subject", subject)
            kind = signature.kind(function)
            lasts = options.expires(expires)
            binding = Binding(
                function=label,
                subject=source,
                output=None if output is None else options.output(output, source),
                retry=options.policy(retry),
                concurrency=options.JOINS,
                timeout=options.seconds("timeout", timeout),
                stream=options.nats_name("stream", stream),
                handler=function,
                signature=signature.read(function, source.names, Context, namespace, takes="parts"),
                file=file,
                line=line,
                kind=kind,
                label=label,
                joins=Joins(lasts, options.size("max_bytes", max_bytes)),
            )
            options.require_output(output, kind)
            arguments.compile_call(binding)
            return binding

        return attach(function, complete, file, line)

    return decorate


def marking(functions: Iterable[Binding], every: Iterable[Binding]) -> tuple[Binding, ...]:
    """The functions; a generator among them marks events without parts, if a function of `every` joins its parts."""
    known = tuple(every)
    joins = {each.function for each in known if each.joins is not None}
    return tuple(
        structs.replace(each, marks_none=True) if splits(each) and joins & reached(each, known) else each
        for each in functions
    )


def unfed(functions: Iterable[Binding]) -> tuple[Binding, ...]:
    """The functions with `@gather` among these to which no generator among these sends parts."""
    known = tuple(functions)
    fed = {name for each in known if splits(each) for name in reached(each, known)}
    return tuple(each for each in known if each.joins is not None and each.function not in fed)


def splits(binding: Binding) -> bool:
    """Whether the outputs of a function are the parts of an event."""
    return binding.kind.endswith("generator") and not binding.batch


def reached(binding: Binding, every: tuple[Binding, ...]) -> set[str]:
    """The names of the functions that a function's outputs reach, directly or through others."""
    reached: set[str] = set()
    ways = [binding]
    while ways:
        output = ways.pop().output
        for each in every:
            if (
                output is not None
                and each.function not in reached
                and overlaps(output.wildcard, each.subject.wildcard)
            ):
                reached.add(each.function)
                ways.append(each)
    return reached
