"""`runner deadletter redrive`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import click

from runner.cli import failure, loop, options, parkedkeys, printed
from runner.cli.deadletter.ordered import Ordered, Sent
from runner.cli.pace import Pace, interval
from runner.cli.parked.retry import bring_back, require_keys
from runner.cli.selection import require_function, selected, selection_options
from runner.cli.session import session
from runner.cli.table import show
from runner.cli.tracing import tracing
from runner.cli.whereabouts import Whereabouts
from runner.core import identity
from runner.core.deadletter import DeadLetter
from runner.core.park import Mark
from runner.errors import JetrunnerError, PermissionDenied, ServerError, Unconfirmed, UsageError
from runner.jetstream.deadletterpage import Stored
from runner.jetstream.deadletters import DeadLetters, NotRedriven, Selection
from runner.jetstream.parked import Name
from runner.telemetry.tracing import Tracing

AT_ONCE = 32
PROGRESS_SECONDS = 1.0


@click.command(
    "redrive",
    epilog="""Examples:

\b
  runner deadletter redrive 17 18
  runner deadletter redrive --function charge --reason exhausted --rate 50/s
  runner deadletter redrive --key anna""",
)
@click.argument("sequences", nargs=-1, type=click.IntRange(min=1))
@click.option("--all", "everything", is_flag=True, help="All of the project's.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="A parked key: the dead letter it waits behind, then what was parked, in order; may be repeated.",
)
@selection_options
@click.option("--limit", type=click.IntRange(min=1), help="The oldest so many.")
@click.option("--rate", metavar="N/s", help="At most so many a second, /m minute or /h hour.")
@options.output_option
@options.connected
def redrive_command(
    sequences: tuple[int, ...],
    everything: bool,
    keys: tuple[str, ...],
    function: str | None,
    reason: str | None,
    since: str | None,
    limit: int | None,
    rate: str | None,
    output: str,
) -> int:
    """Send dead letters back to their function, and to no other; each leaves the dead letters once it is stored there.

    One of an ordered function leaves them once it is settled: a running instance has it run before what waits of its
    key, dead letters of one key in the order of their messages.

    Its attempts start over; message id and output ids stay what they were, so an output that was stored before its
    message died is not stored twice (within the stream's duplicate window). One that cannot be redriven is
    kept and reported, and the exit code is 1.

    With --key (tokens of several joined by dots) a running instance brings a parked key back: the dead letter that it
    waits behind, then its parked messages, each once the one before is done, and all before newer ones. When one of
    them is given up, the key is parked again. One by one, dead letters of a parked key are not redriven.
    """
    place = options.place()
    if keys:
        if sequences or everything or reason or since or limit or rate:
            raise UsageError("--key goes with --function alone", hint="a key comes back as a whole, in order")
        require_keys(keys, "--key")
        bring_back(selected(place, function, None, None), [*dict.fromkeys(keys)], output)
        return 0
    filtered = bool(function or reason or since or everything)
    if bool(sequences) == filtered:
        raise UsageError(
            "give sequences or filters, not both" if filtered else "choose which dead letters to redrive",
            hint="sequences, as `runner deadletter list` shows them, --function, --reason, --since, or --all; or --key",
        )
    selection = selected(place, function, reason, since)
    redrive = Redrive(interval(rate))

    async def main() -> None:
        async with tracing(selection.project, place.root) as traces, session(place.settings) as connection:
            traces.at(connection.url)
            letters = DeadLetters(connection)
            await require_function(letters, selection, place.root)
            redrive.parked = await parkedkeys.marks(connection, selection.project)
            whereabouts = Whereabouts(connection, place.root, selection.project)
            ordered = Ordered(connection, traces, whereabouts, redrive.is_sent, redrive.stays)
            await redrive.run(
                letters, traces, ordered, _chosen(letters, sequences, selection, redrive), limit
            )

    loop.run(main)
    redrive.end(output)
    return 1 if redrive.kept or redrive.missing else 0


class Redrive:
    """Sends back, some at once, and keeps count."""

    def __init__(self, interval: float) -> None:
        self.parked: dict[Name, Mark] = {}
        """Keys whose dead letters go back with what is parked, or not at all."""
        self.sent: list[dict[str, Any]] = []
        self.kept: list[dict[str, Any]] = []
        self.missing: list[int] = []
        self._interval = interval
        """Seconds from one to the next; 0 for as fast as it goes."""
        self._told = time.monotonic()
        self._hints: dict[str, None] = {}

    async def run(
        self,
        letters: DeadLetters,
        traces: Tracing,
        ordered: Ordered,
        chosen: AsyncIterator[Stored],
        limit: int | None,
    ) -> None:
        """Send each of the chosen back; those of ordered functions last, by the order of their messages."""
        slots = anyio.Semaphore(AT_ONCE)
        pace = Pace(self._interval)
        count = 0
        async with anyio.create_task_group() as tasks:
            async for stored in chosen:
                if not await self._is_taken(ordered, stored):
                    await pace()
                    await slots.acquire()
                    tasks.start_soon(self._one, letters, traces, stored, slots)
                count += 1
                if count == limit:
                    break
        await ordered.send(pace if pace.interval else None)

    async def _is_taken(self, ordered: Ordered, stored: Stored) -> bool:
        """Whether it is for `ordered`, or stays."""
        try:
            return await ordered.take(stored)
        except JetrunnerError as error:
            self.stays(stored.letter.sequence, error)
            return True

    async def _one(
        self, letters: DeadLetters, traces: Tracing, stored: Stored, slots: anyio.Semaphore
    ) -> None:
        letter = stored.letter
        try:
            self._refuse_parked(letter)
            target = identity.again_subject(letter.project, letter.function)
            with traces.redrive_span(target, stored.pairs) as span:
                ack = await letters.send_back(stored, span.headers)
                span.stored(ack.stream, ack.seq)
        except (JetrunnerError, ValueError) as error:
            self.stays(letter.sequence, error)
        else:
            message_id = identity.message_id(letter.stream, letter.origin_sequence)
            self._note(letter.sequence, letter.function, message_id, span.trace_id)
        finally:
            slots.release()

    def is_sent(self, sent: Sent) -> None:
        """Tell of one that comes back with its key."""
        each = sent.returning
        self._note(each.letter.sequence, each.function, each.message_id, sent.trace_id)

    def _note(self, sequence: int, function: str, message_id: str, trace_id: str) -> None:
        self.sent.append(
            {"sequence": sequence, "function": function, "message_id": message_id, "trace_id": trace_id}
        )
        self._progress()

    def _refuse_parked(self, letter: DeadLetter) -> None:
        for (function, key), mark in self.parked.items():
            if function == letter.function and mark.key_of(letter.subject) == key:
                raise NotRedriven(
                    f"key {key} of {function} is parked",
                    hint=f"runner parked retry {key} brings it back, in order",
                )

    def stays(self, sequence: int, error: Exception) -> None:
        """Tell of one that stays because of an error; raise one that all others would meet, too."""
        if isinstance(error, ServerError) and not _is_about_one(error):
            raise error
        self.keep(sequence, str(error), getattr(error, "hint", ""))

    def keep(self, sequence: int, reason: str, hint: str = "") -> None:
        """Tell of one that stays."""
        self.kept.append({"sequence": sequence, "reason": reason})
        failure.say(f"dead letter {sequence} is kept: {reason}")
        if hint:
            self._hints[hint] = None

    def miss(self, sequence: int) -> None:
        """Tell of one that is not there."""
        self.missing.append(sequence)
        failure.say(f"there is no dead letter {sequence}")
        self._hints["runner deadletter list shows them"] = None

    def end(self, output: str) -> None:
        """Print what was done."""
        for hint in self._hints:
            failure.advise(hint)
        if output == "json":
            click.echo(printed.data({"redriven": self.sent, "kept": self.kept, "missing": self.missing}))
        else:
            rows = [[str(each["sequence"]), each["function"], each["message_id"]] for each in self.sent]
            show([">SEQUENCE", "FUNCTION", "MESSAGE"], rows)
            missing = f", {len(self.missing):,} not there" if self.missing else ""
            click.echo(f"{len(self.sent):,} redriven, {len(self.kept):,} failed{missing}")

    def _progress(self) -> None:
        if time.monotonic() - self._told >= PROGRESS_SECONDS:
            self._told = time.monotonic()
            click.echo(f"{len(self.sent):,} redriven …", err=True)


async def _chosen(
    letters: DeadLetters, sequences: tuple[int, ...], selection: Selection, redrive: Redrive
) -> AsyncIterator[Stored]:
    if not sequences:
        # What dies again meanwhile is for the next time.
        last = await letters.last_sequence()
        async for stored in letters.browse(selection, up_to=last):
            yield stored
        return
    for sequence in dict.fromkeys(sequences):
        stored_one = await letters.get(sequence)
        if stored_one is None:
            redrive.miss(sequence)
        elif stored_one.letter.project != selection.project:
            other = stored_one.letter.project
            redrive.keep(sequence, f"it belongs to the project {other!r}", "give --project DIR of that one")
        else:
            yield stored_one


def _is_about_one(error: ServerError) -> bool:
    """Whether the next dead letter may fare better."""
    return not isinstance(error, (PermissionDenied, Unconfirmed))
