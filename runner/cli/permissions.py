"""`runner permissions`: prints the least that a NATS user needs, for the server's configuration or for a user's JWT."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from runner.bindings import Binding
from runner.cli import code, failure, options, printed
from runner.cli.function.invoke import find
from runner.config import Settings
from runner.core import identity
from runner.core.http.backend import Publish, RequestBackend
from runner.core.streams.capture import StreamSubjects, capture
from runner.core.subject import Template
from runner.errors import JetrunnerError, UsageError
from runner.jetstream.gatewaypermissions import of_gateway
from runner.jetstream.interest import forgets
from runner.jetstream.ownstreams import AGAIN
from runner.jetstream.permission import Permission, once
from runner.jetstream.permissions import ANY, FunctionNeeds, of_asker, of_operator, of_publisher, of_run
from runner.streams.plan import load_streams, subjects_of_streams

INBOX = "_INBOX"


@click.command(
    "permissions",
    epilog="""Examples:

\b
  runner permissions
  runner permissions charge --form jwt
  runner permissions --for publish""",
)
@click.argument("functions", metavar="[FUNCTION...]", nargs=-1)
@click.option(
    "--for",
    "role",
    type=click.Choice(["run", "gateway", "publish", "operate"]),
    default="run",
    show_default=True,
    help="Who connects: `runner run`; `runner gateway`; who publishes what the functions read; who operates.",
)
@click.option(
    "--form",
    type=click.Choice(["server", "jwt"]),
    default="server",
    show_default=True,
    help="For nats-server.conf, or as the claims of a user's JWT.",
)
@click.option(
    "--publishes",
    metavar="SUBJECT",
    multiple=True,
    help="What handlers publish with ctx.publish, or publishers with a delay; may be repeated.",
)
@click.option(
    "--requests",
    metavar="SUBJECT",
    multiple=True,
    help="What handlers or applications ask with ctx.request or app.request; may be repeated.",
)
@options.project_options
def permissions_command(
    functions: tuple[str, ...], role: str, form: str, publishes: tuple[str, ...], requests: tuple[str, ...]
) -> None:
    """Print the least permissions that a NATS user needs for all functions of the project, or for the named ones.

    The command does not connect to a server. It takes the streams from streams/; if none captures a subject, `*` stands for the
    stream's name. It cannot see what handlers publish besides their output, or which subjects they ask: name these with --publishes
    and --requests. `run` makes our own streams itself; `operate` is for plan, apply, check, status, message, deadletter, parked and
    shard. docs/security.md says more.
    """
    published = [_wildcard("--publishes", subject) for subject in publishes]
    asked = [_wildcard("--requests", subject) for subject in requests]
    place = options.project()
    project = code.load(place.root, place.settings.name or None)
    chosen = [find(project, name) for name in functions] if functions else project.functions
    declared = load_streams(place.root)
    known = subjects_of_streams(declared)
    readers = [reader_of(project.name, binding, known) for binding in chosen]
    for reader in readers:
        if reader.stream == ANY and reader.reads:
            failure.warn(f"no declared stream captures what {reader.function} reads: * stands for its name")
    inbox = place.settings.nats_inbox_prefix or INBOX
    if role == "publish":
        subjects = dict.fromkeys(
            each.subject.wildcard for each in chosen if each.schedule is None and each.route is None
        )
        found = of_publisher(project.name, subjects, inbox)
    elif role == "operate":
        reading = [each for each in readers if each.reads]
        streams = dict.fromkeys((each.stream for each in reading if not each.scheduled), False)
        streams |= {each.name: each.shards is not None or forgets(each.fields) for each in declared}
        found = of_operator(project.name, reading, streams, inbox)
    elif role == "gateway":
        asks, stores = _routes(place.settings, project.functions)
        found = of_gateway(project.name, [each for each in readers if each.routed], asks, stores, inbox)
    else:
        found = of_run(project.name, readers, inbox)
    if asked:
        found = once([*found, *of_asker(asked, inbox)])
    there = {each.subject for each in found if each.side == "publish"}
    found += [
        Permission("publish", each, "given with --publishes") for each in published if each not in there
    ]
    click.echo(printed.data(_claims(found)) if form == "jwt" else "\n".join(_configuration(found)))


def _routes(settings: Settings, functions: Sequence[Binding]) -> tuple[list[str], list[str]]:
    """The subjects that declared routes lead to: those on which functions are asked, and those of streams."""
    from runner.gateway.declarations import Declarations  # noqa: PLC0415  with the extra `http`

    routes = Declarations(settings, functions).routes() if settings.route_files else settings.routes
    backends = [each.backend for route in routes for each in route.backends]
    return (
        [each.subject.wildcard for each in backends if isinstance(each, RequestBackend)],
        [each.subject.wildcard for each in backends if isinstance(each, Publish)],
    )


def _wildcard(option: str, subject: str) -> str:
    try:
        found = Template.parse(subject).wildcard
    except ValueError as error:
        raise UsageError(
            f"{option}: {error}", hint='give a subject as functions publish to it, as "notes.*"'
        ) from None
    if '"' in subject or "\\" in subject:
        raise UsageError(f"{option} {subject!r}: a quote would end its line")
    return found


def reader_of(project: str, binding: Binding, known: Sequence[StreamSubjects]) -> FunctionNeeds:
    """What the permissions of a function depend on."""
    output = binding.output.wildcard if binding.output is not None else ""
    if binding.answers is not None:
        return FunctionNeeds(
            function=binding.function, stream=ANY, durable=ANY, answers=binding.subject.wildcard
        )
    if binding.route is not None:
        return FunctionNeeds(function=binding.function, stream=ANY, durable=ANY, routed=True, output=output)
    return FunctionNeeds(
        function=binding.function,
        stream=AGAIN
        if binding.schedule is not None
        else _stream(binding.subject.wildcard, known, chosen=binding.stream),
        durable=binding.durable or identity.durable(project, binding.function),
        ordered=bool(binding.ordered_by),
        parks=binding.on_exhausted == "park",
        ages=binding.max_age is not None,
        scheduled=binding.schedule is not None,
        joins=binding.joins is not None,
        output=output,
        output_stream=_stream(output, known, publishing=True) if output else ANY,
    )


def _stream(
    subject: str, known: Sequence[StreamSubjects], *, chosen: str | None = None, publishing: bool = False
) -> str:
    try:
        return capture(subject, known, chosen=chosen, publishing=publishing)
    except JetrunnerError:
        return chosen or ANY


def _configuration(found: Iterable[Permission]) -> Iterable[str]:
    """The permissions of a user in nats-server.conf: a line for each subject, with its purpose."""
    yield "permissions {"
    for side in ("publish", "subscribe"):
        mine = [each for each in found if each.side == side]
        widest = max((len(each.subject) for each in mine), default=0)
        yield f"  {side} {{"
        yield "    allow: ["
        for each in mine:
            quoted = f'"{each.subject}"'
            yield f"      {quoted:{widest + 2}}  # {each.why}"
        yield "    ]"
        yield "  }"
    yield "}"


def _claims(found: Sequence[Permission]) -> dict[str, object]:
    """The permissions as claims of a user's JWT, under `nats`."""
    by_side = {
        side: [each.subject for each in found if each.side == side] for side in ("publish", "subscribe")
    }
    return {"nats": {"pub": {"allow": by_side["publish"]}, "sub": {"allow": by_side["subscribe"]}}}
