"""Declared streams against real ones: plan the difference, apply what is safe.

Rule 1: nothing is applied while anything is unsafe, and nothing is ever deleted.
Rule 2: what the server holds is read just before it is judged; `apply` sends what `plan` showed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.bindings import Binding
from runner.core.capture import Catchment, capture, catchment
from runner.core.plan import Plan, StreamPlan, action, order
from runner.core.streamconfig import Change, DeclaredStream, difference, merged
from runner.core.subject import overlaps
from runner.errors import JetrunnerError, ServerError
from runner.jetstream.connection import Connection, check_server
from runner.jetstream.durable import plan_consumers, uncaptured
from runner.jetstream.inventory import holdings, real_streams, stream_info
from runner.jetstream.ownstreams import STREAMS
from runner.jetstream.streamfile import load_streams

__all__ = [
    "apply_streams",
    "capture",
    "catchments",
    "load_streams",
    "plan_project",
    "plan_streams",
    "real_streams",
]


def catchments(
    declared: Iterable[DeclaredStream], real: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Catchment, ...]:
    """What every stream captures once the declared ones are applied and ours are made; `real` from `real_streams`."""
    configs = {**STREAMS, **(real or {})}
    found = []
    for stream in declared:
        config = merged(stream, configs.pop(stream.name, None))
        found.append(catchment(stream.name, config, stream.file))
    return (*found, *(catchment(name, config) for name, config in configs.items()))


async def plan_streams(connection: Connection, declared: Sequence[DeclaredStream]) -> Plan:
    """The difference between declared and real streams. Raises JetrunnerError for a server that is too old."""
    await check_server(connection)
    ours = {stream.name for stream in declared}
    # What two declared streams take from each other was judged when the files were read.
    foreign = {name: config for name, config in (await real_streams(connection)).items() if name not in ours}
    return Plan(tuple([await _plan(connection, stream, foreign) for stream in declared]))


async def plan_project(
    connection: Connection, declared: Sequence[DeclaredStream], bindings: Sequence[Binding], project: str
) -> tuple[Plan, list[JetrunnerError]]:
    """The plan with the durables of the functions, and one error for each subject or output that has no stream.

    With errors the plan is of the streams alone.
    """
    plan = await plan_streams(connection, declared)
    streams = catchments(declared, await real_streams(connection))
    if errors := uncaptured(bindings, streams):
        return plan, errors
    return Plan(plan.streams, await plan_consumers(connection, project, bindings, streams)), []


async def apply_streams(connection: Connection, declared: Sequence[DeclaredStream]) -> Plan:
    """Create and update the declared streams; the plan returned is what was done.

    Raises JetrunnerError, with nothing applied, when a change is unsafe; ServerError when the server refuses one.
    """
    plan = await plan_streams(connection, declared)
    if plan.refused:
        reasons = [
            f"{stream.name} ({stream.file}): {change.field}: {change.why}"
            for stream in plan.refused
            for change in stream.changes
            if change.safety == "unsafe"
        ]
        raise JetrunnerError(
            "nothing was applied, because of unsafe changes:\n  " + "\n  ".join(reasons),
            hint="take them back in the file, or make a new stream; `runner plan` shows every difference",
        )
    done: list[str] = []
    for stream in sorted(plan.changed, key=order):
        verb = "CREATE" if stream.action == "create" else "UPDATE"
        try:
            await connection.api(f"STREAM.{verb}.{stream.name}", stream.config)
        except ServerError as error:
            before = f"; applied before it: {', '.join(done)}" if done else ""
            raise type(error)(
                f"{stream.file}: the server refuses the stream {stream.name}: {error}{before}",
                code=error.code,
                hint=error.hint,
            ) from None
        done.append(stream.name)
    return plan


async def _plan(
    connection: Connection, stream: DeclaredStream, foreign: Mapping[str, Mapping[str, Any]]
) -> StreamPlan:
    real = await stream_info(connection, stream.name)
    config = real["config"] if real is not None else None
    changes = difference(
        stream, config, await holdings(connection, stream, real) if real is not None else None
    )
    changes = tuple(_contested(change, stream, foreign) for change in changes)
    return StreamPlan(
        stream.name, stream.file, action(changes, exists=real is not None), changes, merged(stream, config)
    )


def _contested(change: Change, stream: DeclaredStream, foreign: Mapping[str, Mapping[str, Any]]) -> Change:
    """The same change, unsafe when another stream on the server captures the subjects already."""
    if change.field != "subjects":
        return change
    for name, config in foreign.items():
        for taken in config.get("subjects") or ():
            clash = next((text for text in stream.subjects if overlaps(taken, text)), None)
            if clash is not None:
                why = f'the stream {name} captures "{taken}" already, which overlaps "{clash}"'
                return Change(change.field, change.real, change.declared, "unsafe", why)
    return change
