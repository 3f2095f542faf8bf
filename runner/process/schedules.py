"""The schedules of a running process's functions: they are on the server before anything starts, and are checked each hour."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, TypeAlias

import anyio

from runner.bindings import Binding
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream.publisher import retry_until
from runner.runtime.histories import START_SECONDS
from runner.runtime.runtime import Runtime
from runner.streams.schedules import apply_schedules, plan_own, write

log = logging.getLogger("jetrunner.schedules")

Schedules: TypeAlias = Literal["stand", "apply", "replace", "none"]
"""What a process does with schedules. `stand` makes missing ones. `apply` writes all that differ, as `runner apply` does, but
removes none. `replace` removes schedules of no function, too. `none` does nothing."""

LOOK_SECONDS = 3600.0


async def stand(runtime: Runtime, functions: Sequence[Binding], how: Schedules) -> None:
    """Make sure that the schedules of these functions are on the server. Raises JetrunnerError.

    With `stand` a schedule that differs is logged, and stays: two releases side by side would overwrite each other's.
    """
    if how == "none":
        return
    if how != "stand":
        prune = how == "replace"
        done = await apply_schedules(runtime.connection, runtime.project, functions, prune=prune)
        for plan in done:
            if plan.action != "same":
                log.info("schedule of %s: %s (%s)", plan.function, plan.text, f"{plan.action}d")
        return
    await retry_until(lambda: _stand(runtime, functions), START_SECONDS, "the schedules")


async def keep(runtime: Runtime, functions: Sequence[Binding]) -> None:
    """Make missing schedules again, each hour: somebody may have purged them."""
    while True:
        await anyio.sleep(LOOK_SECONDS)
        try:
            await _stand(runtime, functions)
        except JetrunnerError as error:
            log.warning("the schedules cannot be checked or created: %s", error)


async def _stand(runtime: Runtime, functions: Sequence[Binding]) -> None:
    bindings = {each.function: each for each in functions if each.schedule is not None}
    if not bindings:
        return
    try:
        plans = await plan_own(runtime.connection, runtime.project, [*bindings.values()])
        for plan in plans:
            if plan.action == "create":
                await write(runtime.connection, runtime.project, bindings[plan.function])
                log.info("schedule of %s: %s (created)", plan.function, plan.text)
            elif plan.action == "update":
                told = ", ".join(f"{each.field} {each.real} → {each.declared}" for each in plan.changes)
                log.warning(
                    "the schedule of %s on the server differs (%s): run `runner apply`",
                    plan.function,
                    told,
                )
    except PermissionDenied as error:
        log.warning("the schedules cannot be checked or created, and are assumed to exist: %s", error)
