"""How a plan is shown: a line a difference, marked as in a diff, or one JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from runner.core.streams.config import Change, shown
from runner.core.streams.plan import ConsumerPlan, Plan, StreamPlan

MARKS = {"create": "+", "update": "~", "refuse": "!", "safe": "~", "unsafe": "!", "stray": "-"}


def lines(plan: Plan) -> Iterator[str]:
    """What differs; nothing when nothing does."""
    for stream in plan.streams:
        yield from _stream_lines(stream)
    for consumer in plan.consumers:
        yield from _consumer_lines(consumer)


def document(plan: Plan) -> dict[str, Any]:
    """The whole plan for `--output json`: what is the same is in it too; values are the server's own."""
    return {
        "streams": [
            {
                "name": stream.name,
                "file": stream.file,
                "action": stream.action,
                "changes": msgspec.to_builtins(stream.changes),
            }
            for stream in plan.streams
        ],
        "consumers": msgspec.to_builtins(plan.consumers),
    }


def summary(plan: Plan, *, done: bool = False) -> str:
    """One line that counts, for people."""
    words = (
        {"create": "created", "update": "updated", "same": "as declared"}
        if done
        else {"create": "to create", "update": "to update", "refuse": "refused", "same": "as declared"}
    )
    actions = [stream.action for stream in plan.streams]
    counts = [f"{actions.count(action)} {words[action]}" for action in words if action in actions]
    return f"streams: {', '.join(counts) or 'none declared'}"


def _stream_lines(stream: StreamPlan) -> Iterator[str]:
    if stream.action == "same":
        return
    yield f"{MARKS[stream.action]} stream {stream.name} ({stream.file})"
    for change in stream.changes:
        yield f"    {_change(change)}"


def _consumer_lines(consumer: ConsumerPlan) -> Iterator[str]:
    what = f"consumer {consumer.name} on {consumer.stream}"
    match consumer.action:
        case "create":
            yield f"+ {what}: {consumer.function} reads {consumer.subject} (`runner run` creates it)"
        case "update":
            yield f"~ {what} (`runner run` updates it)"
            for change in consumer.changes:
                yield f"    {_change(change)}"
        case "stray":
            yield f"- {what}: no longer declared, pending {consumer.pending:,} (it stays until you delete it)"
        case "same":
            return
    if consumer.note:
        yield f"    {consumer.note}"
    if consumer.warning:
        yield f"    ! {consumer.warning}"


def _change(change: Change) -> str:
    declared = shown(change.field, change.declared)
    if change.safety == "create":
        return f"+ {change.field} = {declared}"
    if change.safety == "unsafe" and change.real is None:
        return f"! {change.field} = {declared}: {change.why}"
    why = f": {change.why}" if change.why else ""
    return f"{MARKS[change.safety]} {change.field}: {shown(change.field, change.real)} → {declared}{why}"
