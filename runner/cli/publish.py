"""`runner publish`: stores messages in streams, from the command line, a file or standard input."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.to_thread
import click
import msgspec

from runner.cli import failure, loop, options, printed, unread
from runner.cli.headers import parse_headers
from runner.cli.interruption import Interruption
from runner.cli.sending import Sender, SentMessage
from runner.cli.session import session
from runner.cli.tracing import tracing
from runner.core import shown
from runner.core.subject import Template
from runner.errors import JetrunnerError, Unconfirmed, UsageError

CHUNK = 1 << 16


@click.command(
    "publish",
    epilog="""Examples:

\b
  runner publish orders.ada.created '{"id": "o-1", "cents": 4200}'
  runner publish 'orders.{customer}.created' --lines --file orders.jsonl
  tail -f events.log | runner publish logs.web --lines -""",
)
@click.argument("subject")
@click.argument("body", required=False)
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read the body here."
)
@click.option("--lines", is_flag=True, help="One message a line; empty lines are left out.")
@click.option(
    "-H", "--header", "given", multiple=True, metavar="NAME:VALUE", help="A header; may be repeated."
)
@click.option("--count", type=click.IntRange(min=1), default=1, help="Send every message this many times.")
@options.output_option
@options.connected
def publish_command(
    subject: str,
    body: str | None,
    file: Path | None,
    lines: bool,
    given: tuple[str, ...],
    count: int,
    output: str,
) -> int:
    """Store messages in the stream that captures SUBJECT, and print where each one stands: STREAM:SEQUENCE.

    BODY is sent as it is; "-" reads standard input. A {token} in SUBJECT is filled from the field of that name in the message's
    JSON object. If a message cannot be sent, stderr says so, the others are sent, and the exit code is 1. Ctrl-C stops sending,
    waits for the confirmations of what was sent, and prints how many messages are stored, and up to which line; the exit code is
    130. A second Ctrl-C does not wait. If no function of this project reads SUBJECT, stderr says so.
    """
    place = options.place()
    if (body is None) == (file is None):
        raise UsageError(
            "give a BODY or --file" if body is None else "give a BODY or --file, not both",
            hint="a dash as BODY reads standard input",
        )
    template = _template(subject)
    headers = parse_headers(given)
    single = not lines and count == 1
    interruption = Interruption()
    report = PublishReport(output, interruption, single=single)

    async def main() -> None:
        async with tracing(place.settings.name, place.root) as traces, session(place.settings) as connection:
            traces.at(connection.url)
            sender = Sender(connection, traces, report, place.settings.leader_timeout)
            with interruption.listening() as sending:
                with sending, source(body, file) as stream:
                    async for where, message in messages(stream, lines):
                        await _send(sender, template, where, message, headers, count)
                await sender.finish()

    try:
        loop.run(main)
    except BaseException as error:
        if not interruption.number and not isinstance(error, KeyboardInterrupt):
            raise
        interruption.number = interruption.number or signal.SIGINT  # before anything was sent
    code = report.end()
    if report.stored and not interruption.number:
        unread.warn(place, template)
    return code


class PublishReport:
    """Prints where each message was stored, and which ones were not."""

    def __init__(self, output: str, interruption: Interruption, *, single: bool) -> None:
        self._json = output == "json"
        self._single = single
        self._interruption = interruption
        self.stored = self._unanswered = 0
        self._last = ""
        """Where the last message with a known fate was given, as `line 3`."""
        self._hints: dict[str, None] = {}
        self._failed: list[int] = []
        self._error: JetrunnerError | None = None
        """The error of the only message."""

    def __call__(self, sent: SentMessage) -> None:
        """Print what became of one message."""
        if self._interruption.again or (self._interruption.number and isinstance(sent.error, Unconfirmed)):
            self._unanswered += 1
            return
        self._last = sent.where
        if sent.error is not None:
            if self._single:
                self._error = sent.error
                return
            self._failed.append(1)
            failure.say(f"{sent.where}: {sent.error}" if sent.where else str(sent.error))
            if sent.error.hint:
                self._hints[sent.error.hint] = None
            return
        assert sent.ack is not None
        ack = sent.ack
        self.stored += 1
        if not self._json:
            click.echo(f"{shown.line(ack.stream)}:{ack.seq}" + (" duplicate" if ack.duplicate else ""))
            return
        facts = {"stream": ack.stream, "seq": ack.seq, "duplicate": ack.duplicate, "trace_id": sent.trace_id}
        lead = "" if self._single else "[" if self.stored == 1 else ","
        click.echo(lead + printed.data(facts, indent=None))

    def end(self) -> int:
        """Close the JSON document, print the counts, and return the exit code. Raises the error of the only message."""
        told = self._interruption.number
        if self._error is not None and not told:
            raise self._error
        if not self._single and self._json:
            click.echo("]" if self.stored else "[]")
        for hint in self._hints:
            failure.advise(hint)
        if told or not self._single:
            failed = f", {len(self._failed):,} not" if self._failed else ""
            unanswered = f", {self._unanswered:,} without an answer" if self._unanswered else ""
            last = f" up to {self._last}" if told and self._last else ""
            lead = "interrupted: " if told else ""
            click.echo(f"{lead}{self.stored:,} stored{last}{failed}{unanswered}", err=True)
        return self._interruption.code or max(self._failed, default=0)


async def _send(
    sender: Sender,
    template: Template,
    where: str,
    body: bytes,
    headers: Sequence[tuple[str, str]],
    count: int,
) -> None:
    try:
        subject = fill(template, body)
    except ValueError as error:
        sender.refuse(where, template.text, str(error))
        return
    for _ in range(count):
        await sender.send(where, subject, template.text if template.names else "", body, headers)


def fill(template: Template, body: bytes) -> str:
    """The subject of one message. Raises ValueError when a field is missing, or is not one token."""
    if not template.names:
        return template.text
    try:
        fields = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(f"the message is not JSON, which {template.text} is filled from: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"the message is not a JSON object, which {template.text} is filled from")
    return template.render({name: _token(fields[name]) for name in template.names if name in fields})


def _token(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def source(body: str | None, file: Path | None) -> Any:
    """The open file, standard input, or the body itself: a context manager around something with `read1`."""
    if file is not None:
        return file.open("rb")
    if body == "-":
        return nullcontext(sys.stdin.buffer)
    from io import BytesIO  # noqa: PLC0415  once a command

    return BytesIO((body or "").encode("utf-8", "surrogateescape"))


async def messages(stream: IO[bytes], lines: bool) -> AsyncIterator[tuple[str, bytes]]:
    """The messages of the input, each with the place where it was given: all of it as one, or each line as it comes."""
    if not lines:
        yield "", await all_of(stream)
        return
    rest, number = b"", 0
    async for chunk in chunks(stream):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            if text := line.rstrip(b"\r"):
                yield f"line {number}", text
    if rest:
        yield f"line {number + 1}", rest


async def all_of(stream: IO[bytes]) -> bytes:
    """All bytes of the input."""
    return b"".join([chunk async for chunk in chunks(stream)])


async def chunks(stream: Any) -> AsyncIterator[bytes]:
    """The bytes of the input as they come, so that the lines of a slow writer are sent at once.

    The loop waits for a pipe or a terminal: a thread that waits for it would hold the process after Ctrl-C.
    """
    waits = _waits(stream)
    while True:
        if waits:
            await anyio.wait_readable(stream.fileno())
            chunk = stream.read1(CHUNK)
        else:
            chunk = await anyio.to_thread.run_sync(stream.read1, CHUNK, abandon_on_cancel=True)
        if not chunk:
            return
        yield chunk


def _waits(stream: Any) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # the body itself is not a file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stream.isatty()


def _template(subject: str) -> Template:
    try:
        template = Template.parse(subject)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not template.renderable:
        raise UsageError(f"cannot publish to {subject!r}: it stands for many subjects")
    return template
