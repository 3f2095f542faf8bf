"""`runner request`: sends a request to a function, and prints its answer."""

from __future__ import annotations

import time
from pathlib import Path

import click

from runner.cli import loop, options, printed
from runner.cli.headers import parse_headers
from runner.cli.publish import all_of, source
from runner.cli.tracing import tracing
from runner.client import REQUEST_SECONDS
from runner.codec import DecodeError
from runner.core import shown, subject
from runner.core.balancer import POLICIES, Policy
from runner.errors import NoResponders, ServerError, ServiceError, UsageError
from runner.host import Reply, require_timeout
from runner.jetstream.connection import connect
from runner.requests.requester import Requester


@click.command(
    "request",
    epilog="""Examples:

\b
  runner request quotes.ada '{"customer": "ada", "cents": 4200}'
  runner request stock.teapot --timeout 0.5
  runner request quotes.ada --file cart.json --count 100""",
)
@click.argument("asked", metavar="SUBJECT")
@click.argument("body", required=False)
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read the body here."
)
@click.option(
    "-H", "--header", "given", multiple=True, metavar="NAME:VALUE", help="A header; may be repeated."
)
@click.option(
    "--timeout", type=float, default=REQUEST_SECONDS, show_default=True,
    help="Seconds to wait for an answer.",
)  # fmt: skip
@click.option("--policy", type=click.Choice(POLICIES), help="How one of several instances is chosen.")
@click.option(
    "--count", type=click.IntRange(min=1), default=1, help="Send this many requests, one after the other."
)
@options.output_option
@options.connected
def request_command(
    asked: str,
    body: str | None,
    file: Path | None,
    given: tuple[str, ...],
    timeout: float,
    policy: Policy | None,
    count: int,
    output: str,
) -> int:
    """Send a request to SUBJECT, and print the body of its answer as it is.

    BODY is sent as it is, and may be left out; "-" reads standard input. If several instances answer, `--policy` or the setting
    `balance` chooses one. If that one fails, is gone or stands still, another is asked, if that is safe. If the answer is an error,
    stderr has it with its code, and the exit code is 1. With `--output json` each answer is a line: its body, as JSON if it is
    JSON, and the milliseconds that it took.
    """
    if why := subject.problem(asked):
        raise UsageError(f"cannot ask {asked!r}: {why}")
    if subject.unfilled(asked):
        raise UsageError(
            f"cannot ask {asked!r}: it has a token that is not filled in", hint="ask one subject"
        )
    if body is not None and file is not None:
        raise UsageError("give a BODY or --file, not both", hint="a dash as BODY reads standard input")
    try:
        require_timeout(timeout)
    except ValueError as error:
        raise UsageError(str(error)) from None
    place, headers = options.place(), dict(parse_headers(given))

    async def main() -> None:
        async with tracing(place.settings.name, place.root) as traces, connect(place.settings) as connection:
            traces.at(connection.url)
            requester = Requester(connection, traces, place.settings.balance)
            with source(body, file) as stream:
                sent = await all_of(stream)
            for _ in range(count):
                began = time.monotonic()
                try:
                    reply = await requester.request(asked, sent, headers, timeout, policy=policy)
                except ServerError as error:
                    raise _explained(error, asked) from None
                _print(reply, time.monotonic() - began, output)

    loop.run(main)
    return 0


def _print(reply: Reply, seconds: float, output: str) -> None:
    if output == "json":
        facts = {"body": _value(reply), "milliseconds": round(seconds * 1000, 3)}
        click.echo(printed.data(facts, indent=None))
    else:
        end = b"" if reply.body.endswith(b"\n") or not reply.body else b"\n"
        click.echo(reply.body + end, nl=False)


def _value(reply: Reply) -> object:
    """The body of an answer: the value that its JSON holds, or its text."""
    try:
        return reply.decode(None)
    except DecodeError:
        return reply.body.decode("utf-8", "backslashreplace")


def _explained(error: ServerError, asked: str) -> ServerError:
    if isinstance(error, ServiceError):
        return ServerError(f"{error.code}: {shown.line(str(error))}", code=error.code)
    if isinstance(error, NoResponders):
        return ServerError(
            str(error), hint=f"start a function with @reply on {asked}, or see `nats micro ls`"
        )
    return error
