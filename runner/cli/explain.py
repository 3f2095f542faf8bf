"""Says in words what is promised for one function, and why: `runner check --explain FUNCTION`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runner.bindings import Binding
from runner.cli.promises import Promise, explained, of_route
from runner.core.quantity import counted, format_duration, format_size
from runner.core.streams.capture import StreamSubjects, capture
from runner.core.streams.config import DeclaredStream, merged
from runner.errors import JetrunnerError
from runner.hooks import hook_of

ACK_WAIT_SECONDS = 10


def explain(
    binding: Binding, known: Sequence[StreamSubjects], declared: Sequence[DeclaredStream]
) -> list[Promise]:
    """Everything that is promised for a function."""
    if binding.answers is not None:
        return explained(binding)
    if binding.route is not None:
        return of_route(binding)
    return [
        _source(binding, known),
        _delivery(binding),
        *_order(binding, known),
        *_together(binding),
        _failure(binding),
        _crash(binding),
        _time(binding),
        *_outputs(binding, known, declared),
        *_hooks(binding),
        Promise(
            "side effects",
            "what the handler does outside of NATS happens at least once",
            "a process may die between the deed and its record: ctx.message_id is the same in every attempt, and serves as the key "
            "that makes a deed happen once",
        ),
    ]


def _source(binding: Binding, known: Sequence[StreamSubjects]) -> Promise:
    if binding.schedule is not None:
        return Promise(
            "source",
            f"fires by the schedule {binding.schedule.line}, each firing once in the whole cluster",
            "nats-server keeps the schedule and makes one message of each firing; after a time without an instance only the latest "
            "missed firing runs",
        )
    stream = _stream(binding, known)
    where = f"the stream {stream}" if stream else "a stream that is not declared here"
    what = f"every message of {binding.subject.text} in {where}"
    if binding.deliver == "new":
        what += ", from the time on when it first ran"
    why = "a durable consumer of its own: what it has settled is known to the server, whichever instance runs"
    if binding.joins is not None:
        return Promise(
            "source",
            f"all parts of each split event that come on {binding.subject.text} in {where}, in one call, in their order",
            f"parts are stored until all are there; {format_duration(binding.joins.expires)} after the first one it is called without "
            f"the rest, and ctx.missing tells which; all parts of one event have at most {_bytes(binding.joins.max_bytes)}",
        )
    return Promise("source", what, why)


def _bytes(number: int) -> str:
    """A number of bytes as text, as `64 MiB`."""
    text = format_size(number)
    unit = text.lstrip("0123456789")
    return f"{int(text.removesuffix(unit)):,} {unit if unit != 'B' else 'bytes'}"


def _delivery(binding: Binding) -> Promise:
    unit = "firing" if binding.schedule is not None else "event" if binding.joins is not None else "message"
    ends = (
        "a dead letter"
        if binding.on_exhausted == "dead_letter"
        else "a dead letter, and its key waits (parked)"
    )
    return Promise(
        "no loss",
        f"each {unit} is handled to success, or ends as {ends}",
        "it is acknowledged after the handler has returned and its outputs are confirmed; power loss needs three replicas, or "
        "sync_interval: always",
    )


def _order(binding: Binding, known: Sequence[StreamSubjects]) -> Iterator[Promise]:
    if binding.schedule is not None:
        skips = binding.overlap == "skip"
        yield Promise(
            "overlap",
            "a firing that is due while an earlier one runs is left out"
            if skips
            else "firings may run side by side",
            f'overlap="{binding.overlap}"',
        )
        return
    if not binding.ordered_by:
        yield Promise(
            "order",
            f"none: up to {counted(binding.concurrency, 'call')} at a time in each process, and a retry comes after later messages",
            "it has no ordered_by=",
        )
        return
    keys = " and ".join(binding.ordered_by)
    if binding.batch_by == "shard":
        what, others = "messages", "one batch of a shard at a time"
    else:
        what, others = f"one {'batch' if binding.batch else 'message'} at a time,", "other keys do not wait"
    stream = _stream(binding, known)
    shards = next(
        (each.sharding.count for each in known if each.name == stream and each.sharding is not None), 1
    )
    yield Promise(
        "order",
        f"for each {keys}, {what} in stream order, across retries, crashes and deploys; {others}",
        f"ordered_by=; the keys lie in {counted(shards, 'shard')}, each owned by one instance at a time",
    )
    yield Promise(
        "failover",
        "the shards of a killed instance move in under a second",
        "instances see the connection of a dead one close, and hold leases of 3 s besides",
    )


def _together(binding: Binding) -> Iterator[Promise]:
    if binding.batch:
        yield Promise(
            "batches",
            f"up to {binding.batch:,} messages in one call, {binding.linger:g} s after the first of them at the latest; each is settled "
            "for itself",
            "a batch that fails is halved until what fails is alone",
        )
    if binding.in_process:
        yield Promise(
            "process",
            "the handler runs in a process of its own, one message at a time; its end is the end of that message alone",
            'executor="process"',
        )


def _failure(binding: Binding) -> Promise:
    policy = binding.retry
    if policy.attempts == 1:
        return Promise("failure", "an error ends it: there is one attempt", "retry= allows one")
    waits = [
        (policy.wait(number, 0.0), policy.wait(number, 0.999999))
        for number in range(1, min(policy.attempts, 1000))
    ]
    low, high = sum(low for low, _ in waits), sum(high for _, high in waits)
    low, high = round(low, 2), round(high, 2)
    whole = format_duration(high) if low == high else f"{low:.12g} to {high:.12g} s"
    return Promise(
        "failure",
        f"an error is tried again, {counted(policy.attempts, 'attempt')} in all; the waits between them add up to {whole}",
        "retry=; Reject ends it at once, and so does a body that does not decode",
    )


def _crash(binding: Binding) -> Promise:
    if binding.in_process:
        return Promise(
            "crash",
            "a message that ends its process twice is a dead letter, crashed",
            "nothing else runs in that process",
        )
    again = "at once, by the next owner" if binding.ordered_by else f"{ACK_WAIT_SECONDS} s later at most"
    return Promise(
        "crash",
        f"what a killed instance had in work runs again elsewhere, {again}; a message that keeps killing is a dead letter, crashed, and "
        "no neighbour is blamed",
        "a suspect runs in a process of its own",
    )


def _time(binding: Binding) -> Promise:
    stops = not binding.kind.startswith("thread") or binding.in_process
    return Promise(
        "timeout",
        f"an attempt takes {binding.timeout:g} s at most"
        if stops
        else f"an attempt that takes over {binding.timeout:g} s has failed, but its thread runs on",
        "its process is killed"
        if binding.in_process
        else "the handler is cancelled"
        if stops
        else 'Python cannot end a thread; a coroutine, or executor="process", can be ended',
    )


def _outputs(
    binding: Binding, known: Sequence[StreamSubjects], declared: Sequence[DeclaredStream]
) -> Iterator[Promise]:
    if binding.output is None:
        return
    target = _captured(binding.output.wildcard, known)
    stream = next((each for each in declared if each.name == target), None)
    window = merged(stream, None).get("duplicate_window", 0) / 1e9 if stream is not None else 0.0
    within = (
        f"within {format_duration(window)} of the first try"
        if window
        else "within its stream's duplicate_window"
    )
    several = binding.kind.endswith("generator")
    yield Promise(
        "outputs",
        f"what it returns stands in {target or 'its stream'} once, {within}"
        + ("; up to 1,000 items together, or none" if several else ""),
        "each output's message id derives from its input; it is confirmed before the input is acknowledged",
    )


def _hooks(binding: Binding) -> Iterator[Promise]:
    names = [hook.name for each in binding.around if (hook := hook_of(each)) is not None]
    if names:
        what = "a batch" if binding.batch else "an attempt"
        yield Promise(
            "hooks",
            f"around {what} {'runs' if len(names) == 1 else 'run'} {', and inside of it '.join(names)}",
            "@around: hooks of the project outside of those of a module, of each kind by their modules' names",
        )


def _stream(binding: Binding, known: Sequence[StreamSubjects]) -> str:
    return binding.stream or _captured(binding.subject.wildcard, known)


def _captured(subject: str, known: Sequence[StreamSubjects]) -> str:
    try:
        return capture(subject, known)
    except JetrunnerError:
        return ""


def lines(binding: Binding, promises: Sequence[Promise]) -> Iterator[str]:
    """The promises as lines of text."""
    yield f"{binding.both_names}  {binding.place.rpartition(':')[0]}"
    for each in promises:
        yield ""
        yield f"{each.about}: {each.promise}"
        yield f"    because: {each.why}"


def document(binding: Binding, promises: Sequence[Promise]) -> dict[str, Any]:
    """The promises as data, for `--output json`."""
    return {
        "function": binding.label,
        "promises": [{"about": each.about, "promise": each.promise, "why": each.why} for each in promises],
    }
