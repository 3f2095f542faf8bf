"""`runner deadletter drop`: removes dead letters for good."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import anyio
import click
from msgspec import Struct

from runner.cli import failure, loop, options, parkedkeys, printed
from runner.cli.selection import require_function, selected, selection_options
from runner.cli.session import session
from runner.cli.table import counted
from runner.core.history import NOTHING, Identity, void
from runner.core.origin import Origin
from runner.core.park import Mark
from runner.errors import JetrunnerError, ServerError, UsageError
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.deadletterpage import StoredDeadLetter
from runner.jetstream.deadletters import DeadLetters, Selection
from runner.jetstream.ownstreams import BUCKET_STREAM, DEADLETTERS
from runner.jetstream.parked import Name
from runner.runtime.history import History

AT_ONCE = 64


@click.command(
    "drop",
    epilog="""Examples:

\b
  runner deadletter drop 17 18
  runner deadletter drop --function charge --reason undecodable
  runner deadletter drop --all --yes""",
)
@click.argument("sequences", nargs=-1, type=click.IntRange(min=1))
@click.option("--all", "everything", is_flag=True, help="All of the project's.")
@selection_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print how many there are, and drop none.")
@options.output_option
@options.connected
def drop_command(
    sequences: tuple[int, ...],
    everything: bool,
    function: str | None,
    reason: str | None,
    since: str | None,
    yes: bool,
    dry_run: bool,
    output: str,
) -> int:
    """Remove dead letters for good; nothing runs because of that.

    Dead letters that a filter selects are counted first, and the command asks before it drops them; --yes skips the question.
    Messages given up meanwhile are kept. A dead letter behind which a key is parked, or which is being sent back, is kept and
    reported, and the exit code is 1: use `runner parked skip` for the key.
    """
    filtered = bool(function or reason or since or everything)
    if bool(sequences) == filtered:
        raise UsageError(
            "give sequences or filters, not both" if filtered else "choose which dead letters to drop",
            hint="sequences, as `runner deadletter list` shows them, --function, --reason, --since, or --all",
        )
    place = options.place()
    drop = Drop(selected(place, function, reason, since))

    async def choose() -> None:
        async with session(place.settings) as connection:
            await require_function(DeadLetters(connection), drop.selection, place.root)
            await drop.choose(connection, sequences)

    async def remove() -> None:
        async with session(place.settings) as connection:
            await drop.remove(connection)

    loop.run(choose)
    if not dry_run and drop.count:
        if filtered and not yes:
            _confirm(drop.count)
        loop.run(remove)
    drop.end(output, dry_run=dry_run)
    return 1 if drop.kept or drop.missing else 0


def _confirm(count: int) -> None:
    """Ask the user while no connection is open, because an answer may take minutes."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"{counted(count, 'dead letter')} would be dropped for good",
            hint="give --yes, or --dry-run to see how many there are",
        )
    click.confirm(f"Drop {counted(count, 'dead letter')} for good?", abort=True, err=True)


class ChosenLetter(Struct, frozen=True):
    """A dead letter to remove, unless another message has its sequence by then."""

    sequence: int
    stored_ns: int
    function: str
    origin: Origin


class ProtectedLetters:
    """The dead letters that must stay: a parked key waits behind the letter, or the letter is coming back with its key."""

    def __init__(self, marks: Mapping[Name, Mark]) -> None:
        self._behind = {
            (function, _place(mark.given_up)): key for (function, key), mark in marks.items() if mark.given_up
        }
        self._coming = {
            (function, letter.sequence): key
            for (function, key), mark in marks.items()
            for letter in mark.letters
        }

    def concerns(self, function: str) -> bool:
        """Whether a dead letter of this function must stay; with an empty name, whether any must."""
        return any(function in {"", each} for each, _ in (*self._behind, *self._coming))

    def why(self, letter: ChosenLetter) -> tuple[str, str]:
        """Why a dead letter must stay, and a hint what to do; both are empty if it may be removed."""
        function = letter.function
        if (key := self._behind.get((function, _place(letter.origin)))) is not None:
            return (
                f"key {key} of {function} is parked behind it",
                f"runner parked skip {key} gives it up, and runs what waits",
            )
        if (key := self._coming.get((function, letter.sequence))) is not None:
            return f"it is on its way back with key {key} of {function}", ""
        return "", ""


class Drop:
    """Chooses the dead letters to remove, removes them, and tells which ones are kept."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.count = 0
        self.kept: list[dict[str, Any]] = []
        self.missing: list[int] = []
        self._chosen: list[ChosenLetter] | None = None
        """None: all dead letters that the selection takes, up to `_newest`."""
        self._newest = NOTHING
        self._hints: dict[str, None] = {}

    async def choose(self, connection: Connection, sequences: tuple[int, ...]) -> None:
        """Find and count the dead letters to remove, as they are now."""
        letters = DeadLetters(connection)
        protected = await self._protected(connection)
        self._newest = await _newest(connection)
        if sequences:
            found = [await self._found(letters, each) for each in dict.fromkeys(sequences)]
            self._chosen = [each for each in found if each is not None and self._goes(each, protected)]
        elif protected.concerns(self.selection.function) or not self.selection.is_whole:
            self._chosen = await self._browse(letters, protected)
        else:
            counts = await letters.counts(self.selection.project)
            function = self.selection.function
            self.count = counts.get(function, 0) if function else sum(counts.values())
            return
        self.count = len(self._chosen)

    async def remove(self, connection: Connection) -> None:
        """Remove the chosen dead letters, except those that must stay by now. Raises JetrunnerError if the stream is another one by now."""
        letters = DeadLetters(connection)
        protected = await self._protected(connection)
        if self._chosen is not None:
            going = [each for each in self._chosen if self._goes(each, protected)]
        else:
            # The user may have been asked since the count: by now other dead letters may have these sequences.
            verdict = await History(connection, DEADLETTERS).compare(self._newest)
            if void(verdict) is not None:
                raise JetrunnerError(
                    f"stream {DEADLETTERS} is not the one whose dead letters were counted",
                    hint="runner deadletter list shows what stands there now",
                )
            if not protected.concerns(self.selection.function):
                self.count = await letters.purge(self.selection, self._newest.sequence)
                return
            going = await self._browse(letters, protected)
        self.count = 0
        slots = anyio.Semaphore(AT_ONCE)

        async def one(letter: ChosenLetter) -> None:
            try:
                if await letters.drop_at(letter.sequence, letter.stored_ns):
                    self.count += 1
            finally:
                slots.release()

        async with anyio.create_task_group() as tasks:
            for letter in going:
                await slots.acquire()
                tasks.start_soon(one, letter)

    async def _protected(self, connection: Connection) -> ProtectedLetters:
        await History(connection, BUCKET_STREAM).follow()  # a leader that lags behind would leave out a key
        return ProtectedLetters(await parkedkeys.marks(connection, self.selection.project))

    async def _browse(self, letters: DeadLetters, protected: ProtectedLetters) -> list[ChosenLetter]:
        if not self._newest.sequence:
            return []
        found = letters.browse(self.selection, up_to=self._newest.sequence)
        return [each async for stored in found if self._goes(each := _chosen(stored), protected)]

    async def _found(self, letters: DeadLetters, sequence: int) -> ChosenLetter | None:
        stored = await letters.get(sequence)
        if stored is None:
            self.missing.append(sequence)
            failure.say(f"there is no dead letter {sequence}")
            self._hints["runner deadletter list shows them"] = None
        elif (other := stored.letter.project) != self.selection.project:
            self._keep(sequence, f"it belongs to the project {other!r}", "give --project DIR of that one")
        else:
            return _chosen(stored)
        return None

    def _goes(self, letter: ChosenLetter, protected: ProtectedLetters) -> bool:
        why, hint = protected.why(letter)
        if why:
            self._keep(letter.sequence, why, hint)
        return not why

    def _keep(self, sequence: int, reason: str, hint: str = "") -> None:
        self.kept.append({"sequence": sequence, "reason": reason})
        failure.say(f"dead letter {sequence} is kept: {reason}")
        if hint:
            self._hints[hint] = None

    def end(self, output: str, *, dry_run: bool) -> None:
        """Print how many dead letters were dropped, or would be, and how many are kept."""
        for hint in self._hints:
            failure.advise(hint)
        if output == "json":
            told = {"dropped": 0, "would_drop": self.count} if dry_run else {"dropped": self.count}
            click.echo(printed.data({**told, "kept": self.kept, "missing": self.missing}))
            return
        missing = f", {len(self.missing):,} not there" if self.missing else ""
        done = "would be dropped" if dry_run else "dropped"
        click.echo(f"{self.count:,} {done}, {len(self.kept):,} kept{missing}")


async def _newest(connection: Connection) -> Identity:
    """The identity of the newest dead letter; `NOTHING`, of sequence 0, if the stream does not exist."""
    try:
        return (await History(connection, DEADLETTERS).check()).newest
    except ServerError as error:
        if error.code != codes.STREAM_NOT_FOUND:
            raise
        return NOTHING


def _chosen(stored: StoredDeadLetter) -> ChosenLetter:
    letter = stored.letter
    return ChosenLetter(letter.sequence, stored.stored_ns, letter.function, letter.origin)


def _place(origin: Origin) -> tuple[str, int, int]:
    return origin.stream, origin.sequence, origin.timestamp_ns
