"""Sends back dead letters of ordered functions: each is written into the mark of its key, and comes back with the key."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import anyio
from msgspec import Struct

from runner.cli.pace import Pace
from runner.cli.whereabouts import Positions, Whereabouts
from runner.core import identity, sharding
from runner.core.park import Letter
from runner.errors import JetrunnerError
from runner.jetstream.connection import Connection
from runner.jetstream.deadletterpage import StoredDeadLetter
from runner.jetstream.deadletters import DeadLetters, NotRedriven
from runner.jetstream.keymarks import Full, KeyMarks, MarkEntry
from runner.jetstream.ownstreams import DEADLETTERS
from runner.jetstream.ways import key_tokens
from runner.telemetry.attempt import as_origin
from runner.telemetry.tracing import Tracing

TOGETHER = 250
"""Most dead letters of one key that one write sends back."""
AT_ONCE = 32
FULL_SECONDS = 30.0
"""How long to wait for room in a key's mark while none of its dead letters comes back; after that the others are kept."""
PAUSE_SECONDS = 0.1


class Returning(Struct, frozen=True):
    """A dead letter that is to come back with its key."""

    project: str
    function: str
    key: str
    positions: tuple[int, ...]
    letter: Letter
    message_id: str
    trace: tuple[tuple[str, str], ...]
    """The headers of the dead letter that name its trace."""


class SentLetter(Struct, frozen=True):
    """A dead letter that was sent back."""

    returning: Returning
    trace_id: str


class Ordered:
    """Sends back dead letters of ordered functions, those of one key in the order of their messages."""

    def __init__(
        self,
        connection: Connection,
        traces: Tracing,
        whereabouts: Whereabouts,
        sent: Callable[[SentLetter], None],
        kept: Callable[[int, Exception], None],
    ) -> None:
        """`sent` is called for each dead letter that was sent back, `kept` for each that stays, with the reason; `kept` may raise."""
        self._connection = connection
        self._letters = DeadLetters(connection)
        self._traces = traces
        self._whereabouts = whereabouts
        self._positions: dict[tuple[str, str], Positions | NotRedriven | None] = {}
        """By project and function: which tokens make its keys, None for a function without order, or why nobody would run its letters."""
        self._sent = sent
        self._kept = kept
        self.waiting: list[Returning] = []

    async def take(self, stored: StoredDeadLetter) -> bool:
        """Keep a dead letter for `send`; False if its function keeps no order. Raises JetrunnerError if it cannot be sent back."""
        letter = stored.letter
        if not letter.project or not letter.function or not letter.stream:
            return False
        positions = await self._key_tokens(letter.project, letter.function)
        if positions is None:
            return False
        if letter.body_omitted:
            await self._letters.whole(letter, ())
        try:
            key = sharding.key(letter.subject, positions)
        except ValueError as error:
            raise NotRedriven(f"its key is not known: {error}") from None
        place = letter.origin_sequence, letter.timestamp_ns
        self.waiting.append(
            Returning(
                letter.project,
                letter.function,
                key,
                positions,
                Letter(letter.sequence, stored.stored_ns, *place),
                identity.message_id(letter.stream, letter.origin_sequence),
                tuple(pair for pair in stored.pairs if pair[0].lower() in self._traces.fields),
            )
        )
        return True

    async def _key_tokens(self, project: str, function: str) -> Positions | None:
        name = project, function
        if name not in self._positions:
            try:
                self._positions[name] = await self._find(*name)
            except NotRedriven as error:
                self._positions[name] = error
        found = self._positions[name]
        if isinstance(found, NotRedriven):
            raise NotRedriven(str(found), hint=found.hint)
        return found

    async def _find(self, project: str, function: str) -> Positions | None:
        """The indexes of the tokens that make a function's keys, by the instances that run it, else by its code; None without order."""
        positions = await key_tokens(self._connection, project, function)
        if positions is None:
            return None
        found = await self._whereabouts.find(function, positions)
        if not found.somewhere:
            raise NotRedriven(
                f"no instance takes what is redriven to {function}",
                hint=f"start a runner of {project} that has the function {function}; does it not come back: "
                f"runner function forget {function}",
            )
        return positions if positions in found.positions or not found.positions else found.positions[0]

    async def send(self, pace: Pace | None) -> None:
        """Send all kept dead letters back; with a pace one by one, each when the pace lets it."""
        ordered = sorted(self.waiting, key=lambda each: each.letter.order)
        if pace is not None:
            pace.begin()
            for each in ordered:
                await pace()
                await self._together([each])
            return
        keys: dict[tuple[str, str], list[Returning]] = defaultdict(list)
        for each in ordered:
            keys[each.function, each.key].append(each)
        slots = anyio.Semaphore(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for group in keys.values():
                await slots.acquire()
                tasks.start_soon(self._one_key, group, slots)

    async def _one_key(self, group: Sequence[Returning], slots: anyio.Semaphore) -> None:
        try:
            for begin in range(0, len(group), TOGETHER):
                await self._together(group[begin : begin + TOGETHER])
        finally:
            slots.release()

    async def _together(self, group: Sequence[Returning]) -> None:
        """Send back some dead letters of one key, in one write."""
        first = group[0]
        subject = identity.parked_subject(first.project, first.function, first.key)
        now = time.time()
        try:
            with ExitStack() as stack:
                letters, sent = [], []
                for each in group:
                    span = stack.enter_context(self._traces.redrive_span(subject, each.trace))
                    added = span.headers[len(as_origin(list(each.trace))) :]
                    letters.append(_asked(each.letter, now, added))
                    sent.append(SentLetter(each, span.trace_id))
                    span.stored(DEADLETTERS, each.letter.sequence)
                if await self._write(first, letters, now) is None:
                    raise NotRedriven(
                        f"key {first.key} of {first.function} is parked",
                        hint=f"runner parked retry {first.key} brings it back, in order",
                    )
        except (JetrunnerError, ValueError) as error:
            for each in group:
                self._kept(each.letter.sequence, error)
        else:
            for done in sent:
                self._sent(done)

    async def _write(self, of: Returning, letters: list[Letter], now: float) -> MarkEntry | None:
        """Write dead letters into their key's mark; while it is full, wait, as long as the letters in it come back. None: it is parked."""
        marks, before = KeyMarks(self._connection, of.project), -1
        until = time.monotonic() + FULL_SECONDS
        while True:
            try:
                return await marks.send_back(of.function, of.key, of.positions, letters, now)
            except Full:
                entry = await marks.mark(of.function, of.key)
                left = len(entry.mark.letters) if entry is not None else 0
                if left != before:
                    before, until = left, time.monotonic() + FULL_SECONDS
                elif time.monotonic() > until:
                    raise
            await anyio.sleep(PAUSE_SECONDS)


def _asked(letter: Letter, now: float, headers: Sequence[tuple[str, str]]) -> Letter:
    return Letter(letter.sequence, letter.stored, letter.place, letter.placed, now, tuple(headers))
