"""Shows a plan: a line for each difference, marked as in a diff, or one JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from runner.core.streams.config import Change, shown
from runner.core.streams.plan import ConsumerPlan, Plan, SchedulePlan, StreamPlan

DONE = {"create": "created", "update": "updated", "remove": "removed", "same": "as declared"}
TO_DO = {
    "create": "to create",
    "update": "to update",
    "remove": "to remove",
    "refuse": "refused",
    "same": "as declared",
}
MARKS = {"create": "+", "update": "~", "refuse": "!", "safe": "~", "unsafe": "!", "stray": "-"}


def lines(plan: Plan) -> Iterator[str]:
    """The lines of all differences; none if nothing differs."""
    for stream in plan.streams:
        yield from _stream_lines(stream)
    for consumer in plan.consumers:
        yield from _consumer_lines(consumer)
    for schedule in plan.schedules:
        yield from _schedule_lines(schedule)


def document(plan: Plan) -> dict[str, Any]:
    """The whole plan as data, for `--output json`: also what is the same; values are in the server's own form."""
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
        "schedules": msgspec.to_builtins(plan.schedules),
    }


def summary(plan: Plan, *, done: bool = False) -> str:
    """One line of text that counts streams and schedules by what is done with them."""
    found = f"streams: {_counts([each.action for each in plan.streams], done=done) or 'none declared'}"
    if plan.schedules:
        found += f"; schedules: {_counts([each.action for each in plan.schedules], done=done)}"
    return found


def _counts(actions: Sequence[str], *, done: bool) -> str:
    words = DONE if done else TO_DO
    return ", ".join(f"{actions.count(action)} {words[action]}" for action in words if action in actions)


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


def _schedule_lines(schedule: SchedulePlan) -> Iterator[str]:
    match schedule.action:
        case "create":
            yield f"+ schedule {schedule.function}: {schedule.text}"
        case "update":
            yield f"~ schedule {schedule.function}: {schedule.text}"
            for change in schedule.changes:
                yield f"    {_change(change)}"
        case "remove":
            yield f"- schedule {schedule.function}: {schedule.text}, and no function has it any more"


def _change(change: Change) -> str:
    declared = shown(change.field, change.declared)
    if change.safety == "create":
        return f"+ {change.field} = {declared}"
    if change.safety == "unsafe" and change.real is None:
        return f"! {change.field} = {declared}: {change.why}"
    why = f": {change.why}" if change.why else ""
    return f"{MARKS[change.safety]} {change.field}: {shown(change.field, change.real)} → {declared}{why}"
