"""`@reply`: a function that answers requests; its result goes to the asker."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from runner import arguments, options, signature
from runner.bindings import Binding, attach, local_names, place_of
from runner.context import Context
from runner.core.retry import RetryPolicy
from runner.core.service import ReplyOptions
from runner.core.subject import Template, is_reserved
from runner.errors import BindingError
from runner.signature import Unbindable

F = TypeVar("F", bound=Callable[..., Any])

ONCE = RetryPolicy(attempts=1)
"""A request runs once: no stream stores it, and its asker decides whether to ask again."""


def reply(
    subject: str,
    *,
    name: str | None = None,
    concurrency: int | None = None,
    timeout: float = 30.0,
    idempotent: bool = False,
) -> Callable[[F], F]:
    """Call a function with every request to a subject, and answer with what it returns.

    `{token}` in the subject names a token; a parameter of that name takes it. Each request goes to one of the running instances.
    `timeout` is in seconds; if the asker waits a shorter time, the request has only that time. `concurrency` is 64, or
    min(32, cores + 4) for a `def` handler. How many more requests may wait depends on how fast requests are answered; a request
    that finds no place is refused at once. A request is tried once: an exception is its answer. `idempotent=True` says that a
    request may run twice: an asker may send it to another instance if the first has not answered. BindingError when something
    is wrong, at import.
    """
    if callable(subject):
        file, line = place_of(subject, inspect.currentframe())
        raise BindingError(
            "reply needs a subject", file=file, line=line, hint='write @reply("quotes.{customer}")'
        )

    def decorate(function: F) -> F:
        file, line = place_of(function, inspect.currentframe())
        namespace = local_names(inspect.currentframe())

        def complete() -> Binding:
            label = options.label(name, function)
            source = _own(options.template("the subject", subject))
            kind = signature.kind(function)
            if kind.endswith("generator"):
                raise Unbindable(
                    "a request has one answer, and a generator makes many",
                    hint="return a tuple, or publish the items from a function with @consume and output=",
                )
            if not isinstance(idempotent, bool):
                raise Unbindable(f"idempotent= is True or False, not {idempotent!r}")
            binding = Binding(
                function=label,
                subject=source,
                retry=ONCE,
                concurrency=options.concurrency(concurrency, threaded=kind.startswith("thread")),
                timeout=options.seconds("timeout", timeout),
                deliver="new",
                handler=function,
                signature=signature.read(function, source.names, Context, namespace),
                file=file,
                line=line,
                kind=kind,
                label=label,
                answers=ReplyOptions(idempotent),
            )
            arguments.compile_call(binding)
            return binding

        return attach(function, complete, file, line)

    return decorate


def _own(source: Template) -> Template:
    """The subject, if a project may answer on it; else raises Unbindable."""
    if is_reserved(source.wildcard):
        raise Unbindable(f"subject {source.text!r} begins as Jetrunner's own do, which it answers itself")
    if source.wildcard.startswith((">", "*")):
        raise Unbindable(
            f"subject {source.text!r} stands for the subjects of everybody, the server's and ours among them",
            hint="begin it with a token of your own",
        )
    return source
