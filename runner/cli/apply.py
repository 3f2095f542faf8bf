"""`runner apply`: makes the streams on the server what their files declare."""

from __future__ import annotations

import anyio
import click
from msgspec import structs

from runner.cli import failure
from runner.cli.options import connected, output_option
from runner.cli.plan import DeclaredProject, read_project, refuse, show
from runner.cli.session import session
from runner.core.streams.plan import ConsumerPlan, Plan
from runner.streams.plan import apply_streams, plan_project
from runner.streams.schedules import apply_schedules


@click.command("apply", epilog="Example: runner apply --nats-url nats://127.0.0.1:4222")
@connected
@output_option
def apply_command(output: str) -> None:
    """Create and update the declared streams and the schedules of the functions, and print what was done.

    If one change could lose messages, it is refused, and no change is applied. Nothing is ever deleted, except schedules whose
    function is gone.
    """
    declared = read_project()
    done, consumers = anyio.run(_apply, declared)
    show(done, output, done=True)
    for consumer in consumers:
        if consumer.warning:
            failure.warn(consumer.warning)


async def _apply(declared: DeclaredProject) -> tuple[Plan, tuple[ConsumerPlan, ...]]:
    async with session(declared.settings) as connection:
        plan, errors = await plan_project(
            connection, declared.streams, declared.functions, declared.settings.name
        )
        refuse(errors)
        done = await apply_streams(connection, declared.streams, declared.settings.name)
        connection.replicas = max(
            (each.fields.get("num_replicas", 1) for each in declared.streams), default=1
        )
        schedules = await apply_schedules(connection, declared.settings.name, declared.functions, prune=True)
        return structs.replace(done, schedules=schedules), plan.consumers
