"""`runner schedule fire`: fires a function now."""

from __future__ import annotations

import click

from runner.cli import code, loop, options, printed
from runner.cli.function.invoke import find
from runner.cli.session import session
from runner.cli.tracing import tracing
from runner.core import firing, identity
from runner.errors import UsageError
from runner.jetstream import schedules
from runner.jetstream.publisher import PubAck


@click.command("fire", epilog="Example: runner schedule fire nightly")
@click.argument("name", metavar="FUNCTION")
@options.output_option
@options.connected
def fire_command(name: str, output: str) -> None:
    """Fire FUNCTION now, beside its schedule, and print where the firing stands: STREAM:SEQUENCE.

    One instance runs it, as any other firing; `ctx.scheduled` is now. With overlap="skip" the firing waits until an earlier one has
    ended.
    """
    place = options.project()
    project = code.load(place.root, place.settings.name or None)
    binding = find(project, name)
    schedule = binding.schedule
    if schedule is None:
        raise UsageError(
            f"{name} has no schedule: it reads {binding.subject.text}",
            hint="runner publish sends it a message",
        )

    async def main() -> tuple[PubAck, str]:
        async with tracing(project.name, place.root) as traces, session(place.settings) as connection:
            traces.at(connection.url)
            schedules.require_server(connection, [name])
            subject = identity.tick_subject(project.name, binding.function)
            with traces.publish_span(subject, binding.subject.text) as span:
                written = (firing.WRITTEN, schedule.line)
                stored = await schedules.fire(
                    connection, project.name, binding.function, [written, *span.headers]
                )
                span.stored(stored.stream, stored.seq)
                return stored, span.trace_id

    stored, trace_id = loop.run(main)
    if output == "json":
        facts = {
            "stream": stored.stream,
            "seq": stored.seq,
            "duplicate": stored.duplicate,
            "trace_id": trace_id,
        }
        click.echo(printed.data(facts))
    else:
        click.echo(f"{stored.stream}:{stored.seq}")
