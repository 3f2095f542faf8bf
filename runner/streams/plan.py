"""Declared streams against real ones: plan the difference, apply what is safe.

Rule 1: nothing is applied while anything is unsafe, and nothing is ever deleted.
Rule 2: the streams on the server are read just before they are judged; `apply` sends the configurations of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from runner.bindings import Binding
from runner.core.streams.capture import StreamSubjects, capture, covered, subjects_of_stream
from runner.core.streams.config import Change, DeclaredStream, difference, merged
from runner.core.streams.plan import ConsumerPlan, Plan, StreamPlan, action, order
from runner.core.subject import overlaps
from runner.errors import JetrunnerError, ServerError
from runner.jetstream import codes, interest
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import PATIENCE_SECONDS, holdings, real_streams, stream_info
from runner.jetstream.ownstreams import STREAMS
from runner.jetstream.publisher import retry_until, unanswered
from runner.jetstream.server import check_server, release
from runner.streams.consumers import plan_consumers, read_shards, uncaptured
from runner.streams.file import load_streams
from runner.streams.schedules import plan_schedules

__all__ = [
    "apply_streams",
    "capture",
    "load_streams",
    "plan_project",
    "plan_streams",
    "real_streams",
    "subjects_of_streams",
]


def subjects_of_streams(
    declared: Iterable[DeclaredStream], real: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[StreamSubjects, ...]:
    """The subjects of every stream once the declared streams are applied and our own are made; `real` is from `real_streams`."""
    configs = {**STREAMS, **(real or {})}
    found = []
    for stream in declared:
        config = merged(stream, configs.pop(stream.name, None))
        found.append(subjects_of_stream(stream.name, config, stream.file))
    return (*found, *(subjects_of_stream(name, config) for name, config in configs.items()))


async def plan_streams(connection: Connection, declared: Sequence[DeclaredStream], project: str = "") -> Plan:
    """The difference between declared and real streams. Raises JetrunnerError for a server that is too old.

    Without the name of the project every durable counts as another project's.
    """
    await check_server(connection)
    ours = {stream.name for stream in declared}
    real = await real_streams(connection)
    # Whether two declared streams overlap was judged when the files were read.
    foreign = {name: config for name, config in real.items() if name not in ours}
    sources = {stream.name: merged(stream, real.get(stream.name)) for stream in declared} | foreign
    return Plan(tuple([await _plan(connection, stream, foreign, sources, project) for stream in declared]))


async def plan_project(
    connection: Connection, declared: Sequence[DeclaredStream], bindings: Sequence[Binding], project: str
) -> tuple[Plan, list[JetrunnerError]]:
    """The plan with the durables of the functions, and one error for each subject or output that has no stream.

    If there are errors, the plan has the streams alone.
    """
    plan = await plan_streams(connection, declared, project)
    streams = subjects_of_streams(declared, await real_streams(connection))
    if errors := uncaptured(bindings, streams):
        return plan, errors
    # If the changes of a stream are refused, it stays as it is, and functions read it as it is.
    real = await real_streams(connection)
    refused = {each.name for each in plan.refused if each.name in real}
    standing = subjects_of_streams([each for each in declared if each.name not in refused], real)
    consumers = await plan_consumers(connection, project, bindings, standing)
    configs = real | {each.name: each.config for each in plan.streams}
    noted = tuple(_noted(each, configs.get(each.stream, {})) for each in consumers)
    return Plan(plan.streams, noted, await plan_schedules(connection, project, bindings)), []


def _noted(plan: ConsumerPlan, config: Mapping[str, Any]) -> ConsumerPlan:
    """The plan, with a warning if messages are lost before the durable exists."""
    if plan.action != "create" or not interest.forgets(config):
        return plan
    warning = (
        f'{plan.stream} has retention = "interest": what is published before the first `runner run` '
        f"is gone for {plan.function}"
    )
    return msgspec.structs.replace(plan, warning=warning)


async def apply_streams(
    connection: Connection, declared: Sequence[DeclaredStream], project: str = "", *, partly: bool = False
) -> Plan:
    """Create and update the declared streams; returns the plan that was carried out.

    Raises JetrunnerError, with nothing applied, when a change is unsafe; `partly` leaves such streams as they are, and
    applies the others. ServerError when the server refuses a stream.
    """
    plan = await plan_streams(connection, declared, project)
    if plan.refused and not partly:
        raise _refusal(plan)
    done: list[str] = []
    for stream in sorted(plan.changed, key=order):
        verb = "CREATE" if stream.action == "create" else "UPDATE"
        try:
            if stream.action == "update" and any(change.field == "shards" for change in stream.changes):
                await read_shards(connection, stream.name, project, stream.config)
            await _surely(connection, f"STREAM.{verb}.{stream.name}", stream.config)
        except ServerError as error:
            before = f"; applied before it: {', '.join(done)}" if done else ""
            answered = error.code in codes.FEW_SERVERS or not unanswered(error)
            what = "refuses" if answered else "does not answer about"
            raise type(error)(
                f"{stream.file}: the server {what} the stream {stream.name}: {error}{before}",
                code=error.code,
                hint=error.hint,
            ) from None
        done.append(stream.name)
    return plan


async def _surely(connection: Connection, request: str, config: Mapping[str, Any]) -> None:
    """Create or update a stream; the request is sent again when no answer comes, which does no harm."""

    async def once() -> ServerError | None:
        try:
            await connection.api(request, dict(config))
        except ServerError as error:
            if unanswered(error):
                raise
            return error
        return None

    if (refusal := await retry_until(once, PATIENCE_SECONDS, request)) is not None:
        raise refusal


def _refusal(plan: Plan) -> JetrunnerError:
    unsafe = plan.unsafe
    reasons = [f"{stream.name} ({stream.file}): {change.field}: {change.why}" for stream, change in unsafe]
    others = dict.fromkeys(change.field for _, change in unsafe if change.field != "shards")
    what = "them" if len(others) == len({change.field for _, change in unsafe}) else " and ".join(others)
    return JetrunnerError(
        "nothing was applied, because of unsafe changes:\n  " + "\n  ".join(reasons),
        # The text about shards says what to do.
        hint=f"take {what} back in the file, or make a new stream; `runner plan` shows every difference"
        if others
        else "",
    )


async def _plan(
    connection: Connection,
    stream: DeclaredStream,
    foreign: Mapping[str, Mapping[str, Any]],
    known: Mapping[str, Mapping[str, Any]],
    project: str,
) -> StreamPlan:
    real = await stream_info(connection, stream.name)
    config = real["config"] if real is not None else None
    held = await holdings(connection, stream, real, project) if real is not None else None
    changes = tuple(
        _contested(change, stream, foreign)
        for change in difference(stream, config, held)
        if not _impossible(change, connection.server_version)
    )
    if stream.source and (why := copy_problem(stream, known)):
        changes += (Change("source", None, stream.source, "unsafe", why),)
    return StreamPlan(
        stream.name, stream.file, action(changes, exists=real is not None), changes, merged(stream, config)
    )


def _impossible(change: Change, version: str) -> bool:
    """Whether the server cannot make a change: before 2.14 it puts its default in the place of a `duplicate_window` of 0."""
    return change.field == "duplicate_window" and not change.declared and release(version) < (2, 14)


def copy_problem(stream: DeclaredStream, known: Mapping[str, Mapping[str, Any]]) -> str:
    """Why a stream cannot copy its source; empty when it can."""
    config = known.get(stream.source)
    if config is None:
        return f"there is no stream {stream.source}"
    if (retention := config.get("retention", "limits")) != "limits":
        return f'{stream.source} has retention = "{retention}": copying would take its messages from their readers'
    source = subjects_of_stream(stream.source, config)
    if source.sharding is not None:
        return f"{stream.source} is sharded already: read it as it is"
    wanted = stream.shards.subjects if stream.shards is not None else ()
    lacking = [subject for subject in wanted if source.stored and not covered(source.stored, subject)]
    return f'{stream.source} does not hold "{lacking[0]}"' if lacking else ""


def _contested(change: Change, stream: DeclaredStream, foreign: Mapping[str, Mapping[str, Any]]) -> Change:
    """The change, made unsafe if another stream on the server captures the subjects already."""
    if change.field != "subjects":
        return change
    for name, config in foreign.items():
        for taken in config.get("subjects") or ():
            clash = next((text for text in stream.subjects if overlaps(taken, text)), None)
            if clash is not None:
                why = f'the stream {name} captures "{taken}" already, which overlaps "{clash}"'
                return Change(change.field, change.real, change.declared, "unsafe", why)
    return change
