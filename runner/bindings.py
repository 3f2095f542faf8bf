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
"""Attribute of a function that is a hook: what `runner.hooks` has attached."""


class Binding(Struct, frozen=True, kw_only=True):
    """One function of a project: what it consumes and how."""

    function: str
    """Name of the function on the wire, unique in its project."""
    subject: Template
    output: Template | None = None
    retry: RetryPolicy
    concurrency: int
    """Most messages, or batches, in work at once, per process."""
    timeout: float
    """Seconds one attempt may take."""
    ordered_by: tuple[str, ...] = ()
    """Tokens of the subject that make a message's key; empty = no order is kept."""
    on_exhausted: Literal["dead_letter", "park"] = "dead_letter"
    max_age: float | None = None
    """Seconds after which a message is a dead letter instead of an attempt."""
    deliver: Literal["all", "new"] = "all"
    stream: str | None = None
    durable: str | None = None
    handler: Callable[..., Any]
    signature: Signature
    file: str
    line: int
    kind: Kind
    label: str
    """Its name in the code; another than `function` where it was renamed: that one stands in NATS for good."""
    batch: int = 0
    """Most messages that it is called with at once; 0: with one, which is no list."""
    batch_by: Literal["key", "shard"] = "key"
    linger: float = 0.0
    """Seconds after the first message of a batch until it is called with what has come."""
    in_process: bool = False
    """Whether the handler runs in a process of its own, one message at a time."""
    schedule: Schedule | None = None
    """When it fires; None for a function that reads what others publish."""
    overlap: Literal["skip", "allow"] = "skip"
    """What becomes of a firing that is due while an earlier one runs."""
    joins: gather.Joins | None = None
    """How it joins the parts of split events; None for a function that is called with each message."""
    marks_none: bool = False
    """Whether an event that it splits into no parts is told to the function that joins them."""
    answers: ReplyOptions | None = None
    """How it answers requests; None for a function that reads what streams store."""
    route: HttpEndpoint | None = None
    """Which HTTP requests it answers; None for every other function."""
    around: tuple[Callable[..., Any], ...] = ()
    """Hooks that run around each attempt, the outermost first."""

    @property
    def reads_stream(self) -> bool:
        """Whether it reads a stream of users': not the firings of a schedule, which stand in one of ours, nor requests."""
        return self.schedule is None and self.consumes

    @property
    def consumes(self) -> bool:
        """Whether it has a durable consumer: what it is called with stands in a stream, whoever's."""
        return self.answers is None and self.route is None

    @property
    def both_names(self) -> str:
        """`ship (pack)` where the function has another name in NATS than in the code, else its name."""
        return self.label if self.label == self.function else f"{self.label} ({self.function})"

    @property
    def most(self) -> int:
        """Messages in work at once, per process."""
        return gather.AT_ONCE if self.joins is not None else self.concurrency * (self.batch or 1)

    @property
    def place(self) -> str:
        """As errors begin."""
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

    `{token}` in the subject names a token: of a parameter, and of `output`, where the returned value (or each item of a generator) is published.
    Without `name` the function's own name is taken. `timeout` and `max_age` are in seconds. `ordered_by` names one token of the subject, or several:
    messages with the same ones are handled one at a time, in stream order, whatever fails. With `on_exhausted="park"` those that come after one
    that was given up wait for it in `PARKED`, until `runner parked retry` brings all of them back. `deliver="new"` skips what the stream held before
    the function first ran. `concurrency` is 64, and min(32, cores + 4) for a `def` handler. `stream` says which, when two capture the subject.
    With `batch` it is called with lists of up to so many messages, `linger` seconds (0.2) after the first of them at the latest; `concurrency`
    counts batches then, and is 4. With `ordered_by` a batch is of one key, or with `batch_by="shard"` of all keys of a shard. `renamed_from` is the
    name that the function had when it first ran: it goes on where that one is, and keeps that name in NATS. BindingError when something is wrong, at import.
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
    """Every function bound by a module's code, those whose name was taken over later included."""
    return tuple(namespace.get(_MODULE, ()))


def is_wrapped(function: Any) -> bool:
    """Whether it wraps a bound function, having copied its attributes: another decorator was put outermost."""
    attached = _attached(function)
    return attached is not None and attached.handler is not function


def _attached(function: Any) -> Binding | _Pending | None:
    # Modules hold objects of all kinds, some of which answer to any attribute: only functions are asked.
    found = vars(function).get(_ATTACHED) if type(function) is FunctionType else None
    return found if isinstance(found, (Binding, _Pending)) else None


def attach(function: F, complete: Callable[[], Binding], file: str, line: int) -> F:
    """Attach what `complete` makes to a function, and return it. Raises BindingError for what cannot be bound."""
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
    # Kept in the module itself, so that it goes when the module goes; a redefined name is found this way.
    function.__globals__.setdefault(_MODULE, []).append(function)
    return function


def require_function(function: Any, rule: str, file: str, line: int) -> None:
    """Refuse what is no function, and a method, which nothing would give its `self`; `rule` begins the error."""
    if not inspect.isfunction(function):
        raise BindingError(f"{rule}, not {function!r}", file=file, line=line)
    outer = function.__qualname__.rpartition(".")[0]
    if outer and not outer.endswith("<locals>"):
        raise BindingError(f"{rule}, and {function.__qualname__} is a method", file=file, line=line)


def is_bound(function: Callable[..., Any]) -> bool:
    """Whether a decorator of ours has attached something to it."""
    return _ATTACHED in vars(function) or HOOK in vars(function)


def _completed(complete: Callable[[], Binding], file: str, line: int) -> Binding:
    try:
        return complete()
    except (ValueError, TypeError) as error:
        raise BindingError(str(error), file=file, line=line, hint=getattr(error, "hint", "")) from None


def place_of(function: Any, frame: FrameType | None = None) -> tuple[str, int]:
    """File and line of a function; of the decorator's caller for what is none."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    if code is not None:
        return code.co_filename, code.co_firstlineno
    caller = frame.f_back if frame else None
    return (caller.f_code.co_filename, caller.f_lineno) if caller else ("", 0)


def local_names(frame: FrameType | None) -> dict[str, Any]:
    """Names of the function that the decorated one is defined in; none at a module's top level."""
    caller = frame.f_back if frame else None
    return {} if caller is None or caller.f_locals is caller.f_globals else dict(caller.f_locals)
