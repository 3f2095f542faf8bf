"""`@cron`: a function that fires by the clock of the server, once for each firing in the whole cluster."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from runner import arguments, options, signature
from runner.bindings import Binding, attach, local_names, place_of
from runner.context import Context
from runner.core import cron as crontab
from runner.core import identity
from runner.core.retry import RetryPolicy
from runner.core.subject import Template
from runner.errors import BindingError
from runner.signature import Unbindable

F = TypeVar("F", bound=Callable[..., Any])


def cron(
    expression: str,
    *,
    name: str | None = None,
    timezone: str = "UTC",
    output: str | None = None,
    retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
    timeout: float = 30.0,
    overlap: Literal["skip", "allow"] = "skip",
) -> Callable[[F], F]:
    """Call a function by a schedule: once for each firing, in one of all instances.

    `expression` has five fields (minute, hour, day of month, month, day of week), or is `@hourly`, `@daily`, `@weekly`,
    `@monthly`, `@yearly`, or `@every` with a duration of a second or more. `timezone` is an IANA name. Nothing fires in an hour that
    the clock skips; in an hour that it repeats, an expression that names hours fires once. The function takes the context alone:
    `ctx.scheduled` is when the firing was due. A failed firing is tried again by `retry`; if it is given up, it is a dead letter.
    With `overlap="skip"` a firing that is due while an earlier one runs, or waits for its retry, is left out; with "allow" both
    run. `timeout` is in seconds. nats-server keeps the schedule (2.14 or newer). BindingError when something is wrong, at import.
    """
    if callable(expression):
        file, line = place_of(expression, inspect.currentframe())
        raise BindingError("cron needs a schedule", file=file, line=line, hint='write @cron("0 3 * * *")')

    def decorate(function: F) -> F:
        file, line = place_of(function, inspect.currentframe())
        namespace = local_names(inspect.currentframe())

        def complete() -> Binding:
            label = options.label(name, function)
            ticks = identity.tick_subject("*", label)
            source = Template(ticks, ticks, (), ())
            kind = signature.kind(function)
            binding = Binding(
                function=label,
                subject=source,
                output=None if output is None else options.output(output, source),
                retry=options.policy(retry),
                concurrency=options.concurrency(None, threaded=kind.startswith("thread")),
                timeout=options.seconds("timeout", timeout),
                handler=function,
                signature=signature.read(function, (), Context, namespace),
                file=file,
                line=line,
                kind=kind,
                label=label,
                schedule=_schedule(expression, timezone),
                overlap=options.choice("overlap", overlap, ("skip", "allow")),
            )
            if binding.signature.body is not None:
                raise Unbindable(
                    f"parameter {binding.signature.body.name!r}: a firing has no body",
                    hint="take the context alone: ctx.scheduled is when the firing was due",
                )
            options.require_output(output, kind)
            arguments.compile_call(binding)
            return binding

        return attach(function, complete, file, line)

    return decorate


def _schedule(expression: Any, timezone: Any) -> crontab.Schedule:
    for option, value in (("the schedule", expression), ("timezone=", timezone)):
        if not isinstance(value, str):
            raise Unbindable(f"{option} is a string, not {value!r}")
    return crontab.parse(expression, timezone)
