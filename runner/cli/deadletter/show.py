"""`runner deadletter show`: shows one dead letter with its body."""

from __future__ import annotations

import base64

import click

from runner.cli import loop, options, printed, times
from runner.cli.selection import document
from runner.cli.session import session
from runner.core import deadletter, shown
from runner.core.deadletter import DeadLetter
from runner.core.redaction import Rules
from runner.errors import JetrunnerError
from runner.jetstream.deadletterpage import StoredDeadLetter
from runner.jetstream.deadletters import DeadLetters


@click.command("show", epilog="Example: runner deadletter show 17")
@click.argument("sequence", type=click.IntRange(min=1))
@options.output_option
@options.connected
def show_command(sequence: int, output: str) -> None:
    """Show one dead letter: why and where it was given up, its headers, traceback and body."""
    place = options.place()

    async def main() -> StoredDeadLetter | None:
        async with session(place.settings) as connection:
            return await DeadLetters(connection).get(sequence)

    stored = loop.run(main)
    if stored is None:
        raise JetrunnerError(f"there is no dead letter {sequence}", hint="runner deadletter list shows them")
    rules = Rules.of(place.settings.redact)
    letter = deadletter.redacted(stored.letter, rules)
    text, encoded = _body(letter.body)
    if output == "json":
        facts = document(stored.letter, rules) | {"headers": letter.headers, "traceback": letter.traceback}
        # JSON cannot hold bytes that are not UTF-8.
        facts |= {"body": text} if encoded is None else {"body": None, "body_base64": encoded}
        click.echo(printed.data(facts))
        return
    for line in _lines(letter, len(stored.letter.body)):
        click.echo(line)
    click.echo(shown.block(text, "  ") if encoded is None else f"  (base64) {encoded}")


def _lines(letter: DeadLetter, size: int) -> list[str]:
    facts = {
        "sequence": str(letter.sequence),
        "time": times.seconds(letter.time),
        "function": f"{letter.function} ({letter.project})",
        "reason": letter.reason,
        "error": f"{letter.error}: {letter.message}" if letter.message else letter.error,
        "message": f"{letter.stream}:{letter.origin_sequence}",
        "subject": letter.subject,
        "attempts": str(letter.attempts),
    }
    lines = [f"{name + ':':10} {shown.line(value)}" for name, value in facts.items()]
    if letter.headers:
        lines += ["headers:", *(shown.line(f"  {name}: {value}") for name, value in letter.headers.items())]
    if letter.headers_omitted:
        lines.append("headers: some were omitted, the dead letter was too large")
    if letter.traceback:
        lines += ["traceback:", shown.block(letter.traceback.rstrip("\n"), "  ")]
    lines.append(
        "body: omitted, the dead letter was too large" if letter.body_omitted else f"body: {size:,} bytes"
    )
    return lines


def _body(body: bytes) -> tuple[str, str | None]:
    """The body as text, and None; for bytes that are not UTF-8 an empty text, and the body in base64."""
    try:
        return body.decode(), None
    except UnicodeDecodeError:
        return "", base64.b64encode(body).decode()
