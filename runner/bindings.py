"""Bindings: what a decorator attaches to a function (subject, output, policy, limits). The function itself stays as it is.

Rule 1: whatever is wrong with a binding is a BindingError at import, naming file and line.
Rule 2: an annotation that names something defined further down is looked up again by `binding_of`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FrameType, FunctionType
from typing import Any, Literal, TypeVar

from msgspec import Struct

from runner import arguments, options, signature
from runner.context import Context
from runner.core import gather
from runner.core.cron import Schedule
from runner.core.httpendpoint import HttpEndpoint
from runner.core.retry import RetryPolicy
from runner.core.service import ReplyOptions
from runner.core.subject import Template
from runner.errors import BindingError
from runner.signature import Kind, Parameter, Signature

__all__ = ["Binding", "Parameter", "Signature", "binding_of", "bound_in", "consume"]

F = TypeVar("F", bound=Callable[..., Any])

_ATTACHED, _MODULE = "__jetrunner__", "__jetrunner_functions__"
HOOK = "__jetrunner_around__"
"""The attribute of a function in which `runner.hooks` keeps the function's `Hook`."""


class Binding(Struct, frozen=True, kw_only=True):
    """One function of a project: what it consumes and how."""

    function: str
    """Name of the function on the wire, unique in its project."""
    subject: Template
    output: Template | None = None
    retry: RetryPolicy
    concurrency: int
    """Most messages, or batches, in work at once in one process."""
    timeout: float
    """Seconds one attempt may take."""
    ordered_by: tuple[str, ...] = ()
    """Tokens of the subject that make a message's key; empty: no order is kept."""
    on_exhausted: Literal["dead_letter", "park"] = "dead_letter"
    max_age: float | None = None
    """Age in seconds after which a message is not attempted, but made a dead letter."""
    deliver: Literal["all", "new"] = "all"
    stream: str | None = None
    durable: str | None = None
    handler: Callable[..., Any]
    signature: Signature
    file: str
    line: int
    kind: Kind
    label: str
    """The function's name in the code. It differs from `function` with `renamed_from=`: NATS keeps the first name."""
    batch: int = 0
    """Most messages in one call; 0: each call has one message, not in a list."""
    batch_by: Literal["key", "shard"] = "key"
    linger: float = 0.0
    """Seconds after the first message of a batch until the handler is called with those that have come."""
    in_process: bool = False
    """Whether the handler runs in child processes, each with one message at a time."""
    schedule: Schedule | None = None
    """When the function fires; None for a function without `@cron`."""
    overlap: Literal["skip", "allow"] = "skip"
    """What becomes of a firing that is due while an earlier one runs."""
    joins: gather.Joins | None = None
    """How the function joins the parts of split events; None for a function without `@gather`."""
    marks_none: bool = False
    """Whether this generator publishes a mark for an event without parts, for the function that joins them."""
    answers: ReplyOptions | None = None
    """How the function answers requests; None for a function without `@reply`."""
    route: HttpEndpoint | None = None
    """The HTTP requests that the function answers; None for a function without `@route`."""
    around: tuple[Callable[..., Any], ...] = ()
    """Hooks that run around each attempt, the outermost first."""

    @property
    def reads_stream(self) -> bool:
        """Whether the function reads a user's stream: not firings, which stand in a stream of the runner's own, and not requests."""
        return self.schedule is None and self.consumes

    @property
    def consumes(self) -> bool:
        """Whether the function has a durable: its messages stand in a stream, a user's or the runner's own."""
        return self.answers is None and self.route is None

    @property
    def both_names(self) -> str:
        """`ship (pack)` where the function has another name in NATS than in the code, else its name."""
        return self.label if self.label == self.function else f"{self.label} ({self.function})"

    @property
    def most(self) -> int:
        """Most messages in work at once in one process."""
        return gather.AT_ONCE if self.joins is not None else self.concurrency * (self.batch or 1)

    @property
    def place(self) -> str:
        """File, line and name of the function, with which errors begin."""
        return f"{self.file}:{self.line}: {self.function}"

    @property
    def key_positions(self) -> tuple[int, ...]:
        """Indexes, from 0, of the tokens that make a message's key, in the order of `ordered_by`."""
        places = dict(zip(self.subject.names, self.subject.positions, strict=True))
        return tuple(places[name] for name in self.ordered_by)


class _Pending(Struct, frozen=True):
    """A binding whose annotations name something that is not defined yet."""

    handler: Callable[..., Any]
    complete: Callable[[], Binding]


def consume(
    subject: str,
    *,
    name: str | None = None,
    output: str | None = None,
    retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
    concurrency: int | None = None,
    timeout: float = 30.0,
    ordered_by: str | tuple[str, ...] | None = None,
    on_exhausted: Literal["dead_letter", "park"] = "dead_letter",
    batch: int | None = None,
    batch_by: Literal["key", "shard"] = "key",
    linger: float | None = None,
    max_age: float | None = None,
    deliver: Literal["all", "new"] = "all",
    executor: Literal["process"] | None = None,
    stream: str | None = None,
    durable: str | None = None,
    renamed_from: str | None = None,
) -> Callable[[F], F]:
    """Call a function with every message of a subject, until it succeeds or the message is a dead letter.

    `{token}` in the subject names a token: a parameter of that name takes it, and `output` may contain it. The returned value, or each item
    of a generator, is published to `output`. `name` is by default the function's own. `timeout` and `max_age` are in seconds. `ordered_by`
    names one or several tokens of the subject: messages with equal tokens run one at a time, in stream order, whatever fails. With
    `on_exhausted="park"` the messages after one that was given up wait in `PARKED`, until `runner parked retry` brings all of them back.
    `deliver="new"` skips messages older than the function's first run. `concurrency` is 64, or min(32, cores + 4) for a `def` handler.
    `stream` chooses a stream when two capture the subject. With `batch` the function is called with lists of up to so many messages,
    `linger` seconds (0.2) after the first at the latest; `concurrency` counts batches then, and is 4. An ordered batch has messages of one
    key, or with `batch_by="shard"` of all keys of a shard. `renamed_from` is the name with which the function first ran: the function goes
    on where it was, and keeps that name in NATS. BindingError when something is wrong, at import.
    """
    if callable(subject):
        file, line = place_of(subject, inspect.currentframe())
        raise BindingError(
            "consume needs a subject", file=file, line=line, hint='write @consume("orders.created")'
        )

    def decorate(function: F) -> F:
        file, line = place_of(function, inspect.currentframe())
        namespace = local_names(inspect.currentframe())

        def complete() -> Binding:
            in_process = options.executor(executor, batch)
            most = options.batch(batch)
            takes: signature.Taken = "batch" if most else "message"
            source = options.template("the subject", subject)
            kind = signature.kind(function)
            keys = () if ordered_by is None else options.ordered_by(ordered_by, source)
            label = options.label(name, function)
            binding = Binding(
                function=label if renamed_from is None else options.name("renamed_from=", renamed_from),
                subject=source,
                output=None if output is None else options.output(output, source),
                retry=options.policy(retry),
                concurrency=options.concurrency(
                    concurrency, threaded=kind.startswith("thread"), batched=bool(most), in_process=in_process
                ),
                timeout=options.seconds("timeout", timeout),
                ordered_by=keys,
                on_exhausted=options.on_exhausted(on_exhausted, keys),
                max_age=None if max_age is None else options.seconds("max_age", max_age),
                deliver=options.choice("deliver", deliver, ("all", "new")),
                stream=options.nats_name("stream", stream),
                durable=options.durable(durable, keys),
                handler=function,
                signature=signature.read(function, source.names, Context, namespace, takes=takes),
                file=file,
                line=line,
                kind=kind,
                label=label,
                batch=most,
                batch_by=options.batch_by(batch_by, most, keys),
                linger=options.linger(linger, batch),
                in_process=in_process,
            )
            options.require_output(output, kind)
            arguments.compile_call(binding)
            return binding

        return attach(function, complete, file, line)

    return decorate


def binding_of(function: Any) -> Binding | None:
    """The binding a decorator attached; None without. BindingError when an annotation still cannot be resolved."""
    attached = _attached(function)
    if not isinstance(attached, _Pending):
        return attached
    file, line = place_of(function)
    try:
        binding = _completed(attached.complete, file, line)
    except NameError as error:
        raise BindingError(
            str(error),
            file=file,
            line=line,
            hint="annotations are needed at run time: import the name outside of `if TYPE_CHECKING`",
        ) from None
    vars(function)[_ATTACHED] = binding
    return binding


def bound_in(namespace: Mapping[str, Any]) -> tuple[Callable[..., Any], ...]:
    """Every function that a module's code has bound, even if its name was assigned again later."""
    return tuple(namespace.get(_MODULE, ()))


def is_wrapped(function: Any) -> bool:
    """Whether the function wraps a bound one, and has its copied attributes: another decorator was put outermost."""
    attached = _attached(function)
    return attached is not None and attached.handler is not function


def _attached(function: Any) -> Binding | _Pending | None:
    # Modules hold objects of all kinds, and some answer to any attribute: only functions are asked.
    found = vars(function).get(_ATTACHED) if type(function) is FunctionType else None
    return found if isinstance(found, (Binding, _Pending)) else None


def attach(function: F, complete: Callable[[], Binding], file: str, line: int) -> F:
    """Attach the binding that `complete` makes to a function, and return the function. Raises BindingError if it cannot be bound."""
    require_function(function, "only a function can be bound", file, line)
    if is_bound(function):
        what = "a hook" if HOOK in vars(function) else "bound already"
        raise BindingError(
            f"{function.__name__} is {what}; a function has one binding",
            file=file,
            line=line,
            hint="write a second function that calls it",
        )
    attached: Binding | _Pending
    try:
        attached = _completed(complete, file, line)
    except NameError:
        attached = _Pending(function, complete)
    vars(function)[_ATTACHED] = attached
    # The module keeps the list, so that it goes with the module. The list has functions whose name was assigned again, too.
    function.__globals__.setdefault(_MODULE, []).append(function)
    return function


def require_function(function: Any, rule: str, file: str, line: int) -> None:
    """Accept a function only, and no method: nobody would pass its `self`. `rule` begins the error."""
    if not inspect.isfunction(function):
        raise BindingError(f"{rule}, not {function!r}", file=file, line=line)
    outer = function.__qualname__.rpartition(".")[0]
    if outer and not outer.endswith("<locals>"):
        raise BindingError(f"{rule}, and {function.__qualname__} is a method", file=file, line=line)


def is_bound(function: Callable[..., Any]) -> bool:
    """Whether one of the runner's decorators has attached something to a function."""
    return _ATTACHED in vars(function) or HOOK in vars(function)


def _completed(complete: Callable[[], Binding], file: str, line: int) -> Binding:
    try:
        return complete()
    except (ValueError, TypeError) as error:
        raise BindingError(str(error), file=file, line=line, hint=getattr(error, "hint", "")) from None


def place_of(function: Any, frame: FrameType | None = None) -> tuple[str, int]:
    """File and line of a function; for anything else, those of the decorator's caller."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    if code is not None:
        return code.co_filename, code.co_firstlineno
    caller = frame.f_back if frame else None
    return (caller.f_code.co_filename, caller.f_lineno) if caller else ("", 0)


def local_names(frame: FrameType | None) -> dict[str, Any]:
    """The local names of the function in which the decorated one is defined; none at a module's top level."""
    caller = frame.f_back if frame else None
    return {} if caller is None or caller.f_locals is caller.f_globals else dict(caller.f_locals)
