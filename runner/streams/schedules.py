"""Schedules of the functions against those on the server: plan the difference, write it.

Rule 1: a schedule is written only if it differs: a new write of the same `@every` would start its interval again.
Rule 2: `apply` removes the schedule of a function that is gone, and so does `runner dev` on its own server. `runner run` does not:
        an instance of an older release may still run the function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from runner.bindings import Binding
from runner.core import firing
from runner.core.streams.config import Change
from runner.core.streams.plan import SchedulePlan
from runner.errors import NoStream, ServerError
from runner.jetstream import ownstreams, schedules
from runner.jetstream.connection import Connection
from runner.jetstream.publisher import retry_until, unled

PATIENCE_SECONDS = 10.0
NAMES = {
    schedules.EXPRESSION: "schedule",
    schedules.ZONE: "timezone",
    schedules.TARGET: "target",
    schedules.LIFETIME: "lifetime",
    firing.WRITTEN: "written",
}


async def plan_schedules(
    connection: Connection, project: str, bindings: Iterable[Binding]
) -> tuple[SchedulePlan, ...]:
    """The plans of the functions' schedules, then of schedules without a function. Raises JetrunnerError."""
    found = await plan_own(connection, project, bindings)
    known = {each.function for each in found}
    left = []
    for function in await schedules.functions_of(connection, project):
        if function not in known:
            there = await schedules.standing(connection, project, function)
            left.append(SchedulePlan(function, "remove", there.written))
    return (*found, *left)


async def plan_own(
    connection: Connection, project: str, bindings: Iterable[Binding]
) -> tuple[SchedulePlan, ...]:
    """The plans of the schedules of these functions. Raises JetrunnerError."""
    scheduled = [each for each in bindings if each.schedule is not None]
    schedules.require_server(connection, [each.label for each in scheduled])
    return tuple([await _plan(connection, project, binding) for binding in scheduled])


async def apply_schedules(
    connection: Connection, project: str, bindings: Sequence[Binding], *, prune: bool
) -> tuple[SchedulePlan, ...]:
    """Write the functions' schedules; returns the plans that were carried out. Without `prune`, schedules of no function stay.

    Raises JetrunnerError.
    """
    plans = await (plan_schedules if prune else plan_own)(connection, project, bindings)
    if any(each.action == "create" for each in plans):
        ensure = partial(ownstreams.ensure, connection, ownstreams.AGAIN)
        await retry_until(ensure, PATIENCE_SECONDS, f"stream {ownstreams.AGAIN}")
    wanted = {each.function: each for each in bindings}
    done: list[SchedulePlan] = []
    for plan in plans:
        if plan.action == "remove":
            await schedules.remove(connection, project, plan.function)
        elif plan.action != "same":
            await write(connection, project, wanted[plan.function])
        done.append(plan)
    return tuple(done)


async def write(connection: Connection, project: str, binding: Binding) -> None:
    """Make sure that the server has a function's schedule as the function has it. Raises JetrunnerError."""
    assert binding.schedule is not None
    wanted = schedules.headers_of(project, binding.function, binding.schedule)

    async def once() -> None:
        while (there := await schedules.standing(connection, project, binding.function)).headers != wanted:
            try:
                if await schedules.write(connection, project, there, wanted):
                    return
            except NoStream:
                await ownstreams.restore(connection, ownstreams.AGAIN)
                raise

    try:
        await retry_until(once, PATIENCE_SECONDS, f"the schedule of {binding.function}")
    except ServerError as error:
        what = "does not answer about" if unled(error) else "does not take"
        raise type(error)(
            f"{binding.place}: the server {what} the schedule: {error}",
            code=error.code,
            hint=error.hint,
        ) from None


async def _plan(connection: Connection, project: str, binding: Binding) -> SchedulePlan:
    assert binding.schedule is not None
    wanted = schedules.headers_of(project, binding.function, binding.schedule)
    text = binding.schedule.line
    there = await schedules.standing(connection, project, binding.function)
    if not there.sequence:
        return SchedulePlan(binding.function, "create", text)
    changes = tuple(
        Change(NAMES[name], there.headers.get(name), wanted.get(name), "safe")
        for name in schedules.COMPARED
        if there.headers.get(name) != wanted.get(name)
    )
    return SchedulePlan(binding.function, "update" if changes else "same", text, changes)
