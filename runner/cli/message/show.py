"""`runner message show`: shows what became of messages."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import click

from runner.cli import loop, options, printed
from runner.cli.message.find import FoundMessages, Wanted, find
from runner.cli.message.lines import lines
from runner.cli.message.stories import FollowLimits, Stories
from runner.cli.selection import moment
from runner.cli.session import session
from runner.cli.table import counted
from runner.config import Settings
from runner.core import checked
from runner.core.checked import Stream
from runner.errors import UsageError

CONNECT_SECONDS = 0.3


@click.command("show", epilog="Example: runner message show ORDERS:17")
@click.argument("message", metavar="STREAM:SEQ")
@click.option("--key", metavar="KEY", help="Find messages of this key: STREAM alone is given then.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="Find messages with this header; may be repeated.",
)
@click.option("--time", metavar="TIME", help="Find the first message stored at that time or later.")
@click.option(
    "--since", metavar="TIME", help="Find messages stored since then: 15m, 24h, or 2031-05-04T12:00."
)
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=100),
    default=10,
    show_default=True,
    help="Messages that are shown, of those that are found.",
)
@click.option(
    "--depth",
    type=click.IntRange(min=0, max=10),
    default=2,
    show_default=True,
    help="How far outputs are followed: 0 names them alone.",
)
@click.option(
    "--breadth",
    type=click.IntRange(min=0, max=100),
    default=5,
    show_default=True,
    help="Outputs of one function that are followed.",
)
@options.output_option
@options.connected
def show_command(
    message: str,
    key: str | None,
    headers: tuple[str, ...],
    time: str | None,
    since: str | None,
    limit: int,
    depth: int,
    breadth: int,
    output: str,
) -> None:
    """Show what became of a message in each function that reads it.

    A function is waiting (for an instance, or behind others), queued or running in an instance, settling, retrying, gathering the
    other parts of its event, done, or has given the message up: dead. A parked message waits behind a message of its key that was
    given up. The function does not read a skipped message. A gone message was removed from its stream before it was handled. The
    instances are asked which messages they hold. If neither they nor a record know, the state of a delivered message is unknown,
    because the server does not say whether it is settled.

    Below each function stand the error of its last attempt and its outputs, which are found by ids that derive from the message.
    With --key, --header, --time or --since, the command searches a STREAM for messages, the oldest first, and prints where the
    search ended.
    """
    place = options.place()
    stream, sequence = _read(message)
    searches = any((key, headers, time, since))
    if sequence is None and not searches:
        raise UsageError(
            f"{message} names no message",
            hint="STREAM:SEQ, as logs, traces and `runner publish` tell it; or --key, --header, --time, --since",
        )
    if sequence is not None and searches:
        raise UsageError(
            f"{message} is one message already",
            hint=f"to look for others: runner message show {stream} --since 1h",
        )
    wanted = Wanted(
        key=key or "",
        headers=tuple(map(_header, headers)),
        since=moment(time or since or "", "--time" if time else "--since") if time or since else None,
        limit=1 if time else limit,
    )

    async def main() -> tuple[list[dict[str, Any]], FoundMessages | None]:
        async with session(place.settings) as connection:
            stories = Stories(connection, place.root, place.settings, FollowLimits(depth, breadth))
            await stories.load()
            if sequence is not None:
                return [await stories.of(stream, sequence)], None
            await stories.info(stream)
            found = await find(connection, stream, wanted, stories.bindings(stream))
            return [await stories.of(stream, each.sequence) for each in found.messages], found

    told, found = loop.run(main)
    if output == "json":
        click.echo(printed.data(told[0] if found is None else {"messages": told, "search": _search(found)}))
    else:
        linked = _is_there(place.settings)
        for at, each in enumerate(told):
            for line in [*([""] if at else []), *lines(each, linked=linked)]:
                click.echo(line)
    if found is not None:
        _tell(found, stream, only=bool(time))


def _is_there(settings: Settings) -> bool:
    """Whether a web page may show traces: one that was set does; the default one, on this machine, if something listens there."""
    if settings.trace_url != Settings().trace_url:
        return True
    page = urlsplit(settings.trace_url)
    try:
        socket.create_connection((page.hostname, page.port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _search(found: FoundMessages) -> dict[str, Any]:
    return {"looked_at": found.looked, "last": found.last or None, "whole": found.whole}


def _tell(found: FoundMessages, stream: str, *, only: bool) -> None:
    """Print where a search ended; `only`: a single message was wanted."""
    if not found.looked:
        click.echo(f"{stream} holds no message from that time on", err=True)
        return
    end = "the end of the stream" if found.whole else f"{stream}:{found.last}"
    click.echo(
        f"{counted(found.looked, 'message')} looked at, up to {end}; {len(found.messages):,} found", err=True
    )
    if not found.whole and not (only and found.messages):
        click.echo("there may be later ones: begin with --since, or raise --limit", err=True)


def _read(text: str) -> tuple[str, int | None]:
    """The stream and the sequence that a text names. Raises UsageError."""
    stream, colon, number = text.partition(":")
    sequence = checked.number(number) if colon else None
    if not checked.name(stream, Stream) or (colon and not sequence):
        raise UsageError(f"{text!r} is not a message", hint="STREAM:SEQ, for example ORDERS:17")
    return stream, sequence


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--header {text!r} is not NAME=VALUE", hint="for example --header Tenant=acme")
    return name.strip(), value.strip()
