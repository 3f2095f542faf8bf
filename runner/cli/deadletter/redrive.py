"""`runner deadletter redrive`: sends dead letters back to their function."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import click

from runner.cli import failure, loop, options, parkedkeys, printed
from runner.cli.deadletter.ordered import Ordered, SentLetter
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
from runner.jetstream.deadletterpage import StoredDeadLetter
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
@click.option("--limit", type=click.IntRange(min=1), help="Only this many, the oldest first.")
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
    """Send dead letters back to their function, and to no other; each is removed once it is stored for that function.

    A dead letter of an ordered function is removed once it is settled. A running instance runs it before the waiting messages of
    its key; several dead letters of one key run in the order of their messages.

    Attempts begin again at 1. Message id and output ids stay the same, so an output that was stored before is not stored twice
    (within the stream's duplicate window). A dead letter that cannot be redriven is kept and reported, and the exit code is 1.

    With --key a running instance brings a parked key back (join several tokens by dots). The dead letter that the key waits behind
    runs first, then its parked messages, each once the one before is done, and all before newer ones. When one of them is given up,
    the key is parked again. Dead letters of a parked key cannot be redriven by number or filter.
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
    """Sends dead letters back, up to 32 at once, and keeps what became of each."""

    def __init__(self, interval: float) -> None:
        self.parked: dict[Name, Mark] = {}
        """The parked keys: their dead letters go back with the parked messages, or not at all."""
        self.sent: list[dict[str, Any]] = []
        self.kept: list[dict[str, Any]] = []
        self.missing: list[int] = []
        self._interval = interval
        """Seconds from one dead letter to the next; 0: as fast as possible."""
        self._told = time.monotonic()
        self._hints: dict[str, None] = {}

    async def run(
        self,
        letters: DeadLetters,
        traces: Tracing,
        ordered: Ordered,
        chosen: AsyncIterator[StoredDeadLetter],
        limit: int | None,
    ) -> None:
        """Send the chosen dead letters back; those of ordered functions go last, in the order of their messages."""
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

    async def _is_taken(self, ordered: Ordered, stored: StoredDeadLetter) -> bool:
        """Whether nothing is left to do: `ordered` will send the dead letter, or it cannot be sent back and is kept."""
        try:
            return await ordered.take(stored)
        except JetrunnerError as error:
            self.stays(stored.letter.sequence, error)
            return True

    async def _one(
        self, letters: DeadLetters, traces: Tracing, stored: StoredDeadLetter, slots: anyio.Semaphore
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

    def is_sent(self, sent: SentLetter) -> None:
        """Note a dead letter that was sent back with its key."""
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
        """Tell that an error keeps a dead letter where it is; raise the error if all others would meet it, too."""
        if isinstance(error, ServerError) and not _is_about_one(error):
            raise error
        self.keep(sequence, str(error), getattr(error, "hint", ""))

    def keep(self, sequence: int, reason: str, hint: str = "") -> None:
        """Tell that a dead letter is kept, and why."""
        self.kept.append({"sequence": sequence, "reason": reason})
        failure.say(f"dead letter {sequence} is kept: {reason}")
        if hint:
            self._hints[hint] = None

    def miss(self, sequence: int) -> None:
        """Tell that there is no dead letter with this sequence."""
        self.missing.append(sequence)
        failure.say(f"there is no dead letter {sequence}")
        self._hints["runner deadletter list shows them"] = None

    def end(self, output: str) -> None:
        """Print which dead letters were sent back, and how many are kept."""
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
) -> AsyncIterator[StoredDeadLetter]:
    if not sequences:
        # A message that is given up again meanwhile is left for the next redrive.
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
    """Whether an error concerns one dead letter, so that the next one may succeed."""
    return not isinstance(error, (PermissionDenied, Unconfirmed))
