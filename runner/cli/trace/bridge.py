"""`runner trace bridge`: turns the reports of servers about messages into spans in the messages' traces."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

import anyio
import click

from runner import devserver
from runner.cli import loop, options
from runner.cli.interruption import Interruption
from runner.cli.tracing import tell_collector
from runner.core import checked, hop, subject
from runner.errors import UsageError
from runner.jetstream.connection import connect
from runner.jetstream.messages import nanoseconds
from runner.telemetry import settings
from runner.telemetry.tracing import Tracing

SUBJECT = "jetrunner.msgtrace"
QUEUE = "jetrunner-trace-bridge"
"""The queue group by which several bridges share the work."""
TELL_SECONDS = 60.0
"""Least seconds between two log lines about reports that could not be read."""
FLUSH_SECONDS = 3.0

log = logging.getLogger("jetrunner.trace")


@click.command("bridge", epilog="Example: runner trace bridge --nats-url nats://nats.internal:4222")
@click.option(
    "--subject", "told_on", metavar="SUBJECT", default=SUBJECT, show_default=True,
    help="Where the servers tell it: `dest` of `msg_trace` in the account.",
)  # fmt: skip
@options.connected
def bridge_command(told_on: str) -> int:
    """Turn the reports of NATS servers about traced messages into spans, until told to stop.

    Each server that a message passed makes a span, a child of the span that sent the message. It says where the message came from,
    which stream stored it, to which server or subscription it went, or why it was refused. The servers send these reports if their
    account says so:

    \b
      accounts { APP { msg_trace: { dest: "jetrunner.msgtrace", sampling: "100%" } } }

    Spans go where those of functions go (OTEL_EXPORTER_OTLP_ENDPOINT), or to the `runner dev` of this project. Several bridges
    share the work. The servers do not report deliveries of JetStream to consumers.
    """  # noqa: D301  # click reads the character \b, not the two that stand for it
    if why := subject.problem(told_on):
        raise UsageError(f"cannot listen on {told_on!r}: {why}")
    place = options.place()
    found = settings.load(devserver.traced(place.root, os.environ))
    if not found.enabled:
        raise UsageError(
            "traces are turned off", hint="unset OTEL_SDK_DISABLED and OTEL_TRACES_EXPORTER=none"
        )
    tracing = Tracing(found, place.settings.name or "runner")
    bridge = Bridge(tracing.hops())
    interruption = Interruption()

    async def main() -> None:
        if not devserver.traces(place.root) and not await tell_collector():
            tracing.presume_missing()
        async with connect(place.settings) as connection:
            with interruption.listening() as scope, scope:
                unsubscribe = await connection.wire.subscribe(told_on, bridge.take, QUEUE)
                await connection.heard()
                log.info(
                    "ready: turns the trace messages on %s into spans for %s", told_on, found.destination
                )
                try:
                    await connection.closed.wait()
                finally:
                    with anyio.CancelScope(shield=True):
                        await unsubscribe()

    try:
        loop.run(main)
    finally:
        tracing.shutdown(FLUSH_SECONDS)
    log.info("ended: %d spans", bridge.taken)
    return 0


class Bridge:
    """Makes spans of the reports of servers."""

    def __init__(self, put: Callable[[hop.Hop], None]) -> None:
        self.taken = 0
        """How many reports became a span."""
        self._put = put
        self._unread = 0
        self._tell = 0.0

    def take(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        """Make a span of one server's report on one message; anybody who may publish on the subject can have written the report."""
        try:
            found = hop.read(body, nanoseconds)
        except checked.Unfit as error:
            self._unread += 1
            if (now := time.monotonic()) >= self._tell:
                self._tell = now + TELL_SECONDS
                log.warning("%d messages could not be read, the last: %s", self._unread, error)
            return
        if found is not None:
            self.taken += 1
            self._put(found)
