"""`runner function invoke`: calls one function here, without NATS."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from runner import codec
from runner.bindings import Binding
from runner.cli import code, failure, loop, options, printed, times
from runner.cli.function.replies import replying
from runner.cli.headers import parse_headers
from runner.cli.invocation import described
from runner.core import shown
from runner.core.answered import answered, responded
from runner.core.redaction import MSGPACK, Rules, Values
from runner.core.settlement import Failed, Outcome, settle
from runner.core.signals import Reject, Retry
from runner.discovery import Project
from runner.errors import UsageError
from runner.host import Host
from runner.pipeline.local import LocalMessage, Made, attempt, subject_of
from runner.process.lifespan import alive
from runner.runtime.blame import trace_of
from runner.staged import Staged
from runner.values import did_you_mean


class Veil(Struct, frozen=True):
    """Hides what must not be shown of a message, and of what its handler has made."""

    rules: Rules
    hidden: Values

    def text(self, body: bytes) -> str:
        """A body as text, without what is hidden."""
        return self.hidden.hide(self.rules.body(body).decode("utf-8", "replace"))

    def document(self, body: bytes) -> Any:
        """A JSON body as the value that it holds, any other body as text, without what is hidden."""
        text = self.text(body)
        try:
            return json.loads(text)
        except ValueError:
            return text


@click.command(
    "invoke",
    epilog="""Example:

\b
  runner function invoke charge --subject orders.ada.created '{"id": "o-1", "cents": 4200}'
  runner function invoke price --subject "GET /prices/tea" --reply 'rates.*={"eur": 0.9}'""",
)
@click.argument("name", metavar="FUNCTION")
@click.argument("body", required=False)
@click.option(
    "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read the body here."
)
@click.option(
    "--subject", help="The subject it came on; needed where the function's has tokens or wildcards."
)
@click.option(
    "-H", "--header", "given", multiple=True, metavar="NAME:VALUE", help="A header; may be repeated."
)
@click.option(
    "--reply",
    "replies",
    multiple=True,
    metavar="SUBJECT=BODY",
    help="What ctx.request gets on a subject, which may have wildcards; may be repeated.",
)
@click.option("--attempt", "number", type=click.IntRange(min=1), default=1, help="Which attempt this is.")
@options.output_option
@options.project_options
def invoke_command(
    name: str,
    body: str | None,
    file: Path | None,
    subject: str | None,
    given: tuple[str, ...],
    replies: tuple[str, ...],
    number: int,
    output: str,
) -> int:
    """Call FUNCTION once with BODY ("-" reads standard input; none is empty), and print what it returned and published.

    Nothing is sent to NATS: --reply gives the answers that ctx.request gets. The lifespan of the project runs around the call. Exit
    1 when the message would be retried or given up, or the request answered with an error. What your code prints goes to stderr.
    """
    place = options.place()
    if body is not None and file is not None:
        raise UsageError("give a BODY or --file, not both")
    project = code.load(place.root, place.settings.name or None)
    binding = find(project, name)
    literal = subject_of(binding, subject, "--subject")
    headers = parse_headers(given)
    data = file.read_bytes() if file else sys.stdin.buffer.read() if body == "-" else (body or "").encode()
    message, host = LocalMessage(literal, data, headers, number), replying(replies)
    with code.prints_aside():
        found = loop.run(lambda: invoke(project, binding, message, host))
    rules = Rules.of(place.settings.redact)
    hidden = rules.values(headers, data, MSGPACK if message.is_msgpack else "")
    if isinstance(found, Made):
        _show(found, binding, output, Veil(rules, hidden))
        return 0
    _explain(found, binding, number, output, hidden)
    return 1


def find(project: Project, name: str) -> Binding:
    """The function of a project that has this name. Raises UsageError with a hint what was perhaps meant."""
    return named(project.functions, name)


def named(functions: Sequence[Binding], name: str) -> Binding:
    """The function that has this name. Raises UsageError with a hint what was perhaps meant."""
    for binding in functions:
        if name in (binding.label, binding.function):
            return binding
    names = [binding.label for binding in functions]
    hint = did_you_mean(name, names) or f"there are: {', '.join(names) or 'none'}"
    raise UsageError(f"there is no function {name!r}", hint=hint)


async def invoke(project: Project, binding: Binding, message: LocalMessage, host: Host) -> Made | Outcome:
    """Call a function as a running process would. Raises JetrunnerError for a broken lifespan."""
    async with alive(project) as state:
        return await attempt(binding, message, state, host)


def _explain(outcome: Outcome, binding: Binding, attempt: int, output: str, hidden: Values) -> None:
    """Print what would become of the message or the request, and why."""
    settlement = (
        settle(outcome, attempt, binding.retry, 0.5)
        if binding.consumes
        else answered(outcome)
        if binding.route is None
        else responded(outcome)
    )
    kind, reason = described(settlement, outcome, hidden)
    error = outcome.error if isinstance(outcome, Failed) else None
    if output == "json":
        click.echo(printed.data({"function": binding.function, "settlement": kind, "reason": reason}))
    elif error is not None and not isinstance(error, (Reject, Retry)) and (trace := trace_of(error)):
        click.echo(shown.block(hidden.hide(trace.rstrip("\n")), "  "), err=True)
    fates = {"retry": "the message would be retried", "error": "the request would be answered"}
    fate = fates.get(kind, "the message would be a dead letter")
    failure.say(f"{binding.function}: {fate}: {reason}")


def _show(found: Made, binding: Binding, output: str, veil: Veil) -> None:
    if output == "json":
        facts = {
            "function": binding.function,
            "result": None if found.result is None else veil.document(_encoded(found.result)),
            "outputs": [_message(staged, veil) for staged in found.outputs],
            "published": [_message(staged, veil) for staged in found.published],
            "seconds": round(found.seconds, 6),
        }
        click.echo(printed.data(facts))
        return
    if not found.outputs:
        click.echo(
            f"{'returned':10} {shown.line(veil.text(_encoded(found.result))) if found.result is not None else 'nothing'}"
        )
    for word, messages in (("output", found.outputs), ("published", found.published)):
        for staged in messages:
            when = f"  at {times.stamp(staged.at.timestamp())}" if staged.at else ""
            click.echo(f"{word:10} {staged.subject}  {shown.line(veil.text(staged.body))}{when}")
    click.echo(f"{binding.function}: {found.seconds * 1000:.1f} ms", err=True)


def _message(staged: Staged, veil: Veil) -> dict[str, Any]:
    return {
        "subject": staged.subject,
        "body": veil.document(staged.body),
        "headers": veil.rules.headers(staged.headers),
        "at": times.stamp(staged.at.timestamp()) if staged.at else None,
    }


def _encoded(result: Any) -> bytes:
    """A result as bytes; a result that cannot be a message is shown by its repr, since nothing publishes it here."""
    try:
        return codec.encode(result)
    except codec.EncodeError:
        return repr(result).encode("utf-8", "replace")
