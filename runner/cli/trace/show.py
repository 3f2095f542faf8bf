"""`runner trace ID`: shows a trace as a waterfall in the terminal."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread
import click
import msgspec

from runner import devserver
from runner.cli import failure, loop, options, printed
from runner.cli.session import session
from runner.config import Settings
from runner.core import checked, shown, traceparent
from runner.core.checked import Stream
from runner.errors import JetrunnerError, UsageError
from runner.jetstream import codes
from runner.jetstream.messages import leader_message
from runner.telemetry import query, waterfall
from runner.telemetry.query import DevTraces, Jaeger, Unanswered
from runner.telemetry.span import Span

_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}")
_PAGE = re.compile(r"(https?://.+?)/(?:jaeger/)?trace/\{trace_id\}.*")
LEAST_WIDTH = 60


@click.command("show", epilog="Example: runner trace show ORDERS:17, or runner trace ORDERS:17")
@click.argument("identity", metavar="ID")
@click.option(
    "--jaeger",
    "jaeger_url",
    metavar="URL",
    help="Where a Jaeger answers questions.  [default: the host of trace_url]",
)
@options.output_option
@options.connected
def show_command(identity: str, jaeger_url: str | None, output: str) -> None:
    """Show a trace: its spans below each other, when each began and how long it took, how long messages waited, and what failed.

    ID is a trace id, or STREAM:SEQUENCE for all traces in which that message was sent or handled. Spans are read from the
    `runner dev` that runs in this project, and from Jaeger. The wait before an attempt is drawn as dots.
    """
    place = options.place(jaeger_url=jaeger_url)
    trace_id, message = _read(identity)
    sources = _sources(place.root, place.settings)

    async def main() -> tuple[list[Span], list[str]]:
        wanted = trace_id
        if message is not None:
            wanted = await _trace_of(place.settings, *message)
        return await _collect(sources, wanted, identity if message is not None else "")

    spans, silent = loop.run(main)
    if not spans:
        raise _nothing(identity, sources, silent)
    links = {each: place.settings.trace_url.replace("{trace_id}", each) for each in _traces(spans)}
    in_jaeger = any(isinstance(each, Jaeger) and each.url not in silent for each in sources)
    if output == "json":
        urls = links if in_jaeger else {}
        found = {"traces": _traces(spans), "trace_urls": urls, "spans": msgspec.to_builtins(spans)}
        click.echo(printed.data(found))
        return
    for line in waterfall.lines(spans, _width(), waits=True):
        click.echo(line)
    if in_jaeger:
        for link in links.values():
            click.echo(shown.line(link))


def _width() -> int:
    return max(LEAST_WIDTH, shutil.get_terminal_size((120, 24)).columns) if sys.stdout.isatty() else 120


def _read(text: str) -> tuple[str, tuple[str, int] | None]:
    """The trace id that a text is, or the stream and sequence that it names. Raises UsageError."""
    if _TRACE_ID.fullmatch(text):
        return text.lower(), None
    stream, colon, number = text.partition(":")
    sequence = checked.number(number) if colon else None
    if not sequence or not checked.name(stream, Stream):
        raise UsageError(
            f"{text!r} is neither a trace id nor a message",
            hint="32 hex digits, or STREAM:SEQUENCE as ORDERS:17",
        )
    return "", (stream, sequence)


def _sources(root: Path, settings: Settings) -> list[DevTraces | Jaeger]:
    """The places where spans may be kept: the project's `runner dev`, and Jaeger."""
    found: list[DevTraces | Jaeger] = []
    if url := devserver.traces(root):
        found.append(DevTraces(url))
    page = _PAGE.fullmatch(settings.trace_url)
    if jaeger := settings.jaeger_url or (page[1] if page is not None else ""):
        found.append(Jaeger(jaeger))
    return found


async def _trace_of(settings: Settings, stream: str, sequence: int) -> str:
    """The id of the trace in which a message was sent, or which it has begun; empty if the message cannot be read."""
    try:
        async with session(settings) as connection:
            stored = await leader_message(connection, stream, {"seq": sequence}, codes.NOTHING_STORED)
    except JetrunnerError as error:
        failure.warn(f"{stream}:{sequence} is looked for among spans alone: {error}")
        return ""
    if stored is None:
        return ""
    parent = traceparent.sent_in(stored.header)
    if parent is not None:
        return parent.trace_id
    return traceparent.derived_trace_id(stream, sequence, stored.stored_ns)


async def _collect(
    sources: Sequence[DevTraces | Jaeger], trace_id: str, message: str
) -> tuple[list[Span], list[str]]:
    """All spans of the sources, and the URLs of sources that do not answer."""
    spans: list[Span] = []
    silent: list[str] = []
    for source in sources:
        asked = [(source.trace, trace_id), (source.message, message)]
        try:
            for ask, about in asked:
                if about:
                    spans += await anyio.to_thread.run_sync(ask, about)
        except Unanswered:
            silent.append(source.url)
    return query.once(spans), silent


def _traces(spans: Sequence[Span]) -> list[str]:
    """The ids of the spans' traces, the earliest first."""
    return list(dict.fromkeys(each.trace_id for each in sorted(spans, key=lambda each: each.start_ns)))


def _nothing(identity: str, sources: Sequence[DevTraces | Jaeger], silent: Sequence[str]) -> JetrunnerError:
    places = [
        f"{'runner dev' if isinstance(each, DevTraces) else f'Jaeger at {each.url}'}"
        f"{' (does not answer)' if each.url in silent else ''}"
        for each in sources
    ]
    where = " and ".join(places) or "no place: no `runner dev` runs here, and no Jaeger is set"
    return JetrunnerError(
        f"no span of {identity} was found; looked in {where}",
        hint="spans come a second after they end; of a busy system 100 traces a second are taken "
        "(OTEL_TRACES_SAMPLER=always_on takes all); --jaeger URL asks another Jaeger",
    )
