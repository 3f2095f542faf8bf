"""The ack floor of a durable, remembered outside of it: where to go on once the durable was deleted."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from runner.core import checked
from runner.core.checked import Count, Line, Pattern
from runner.core.history import NOTHING, Identity, State
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream import tolerant
from runner.jetstream.kv import KV


class Floor(msgspec.Struct, frozen=True):
    """Everything up to this sequence is settled, in the history of the stream that it was read in."""

    sequence: Count
    created: Line
    """When the stream was made."""
    newest: Identity = NOTHING
    """The newest message that the stream had when the floor was read."""
    subject: Pattern | None = None
    """What the durable read then, as published; None: not known."""

    @property
    def known(self) -> Identity:
        """What tells whether the stream is still the one that the floor is of; without `newest` its number alone does."""
        return self.newest if self.newest.sequence else Identity(self.created, self.sequence)


read = checked.json(Floor)
"""What stands in the bucket; raises `Unfit`."""


class Floors:
    """The remembered floors of a project's durables."""

    def __init__(self, kv: KV, project: str) -> None:
        self._kv = kv
        self._project = project
        self._saved: dict[tuple[str, str], tuple[int, str, str, int]] = {}
        """A floor, when its stream was made, what the durable read, and the sequence in the bucket at which that was saved."""

        self.lost = 0
        """Counts how often the bucket has lost something."""

    async def last(self, stream: str, durable: str) -> Floor | None:
        """The floor, None when none is known; as the bucket's leader has it: an older one would run again what is done."""
        return _read((await self._kv.get(self._key(stream, durable))).value)

    async def newest(self, stream: str) -> Identity:
        """The newest message that any durable's floor knows of the stream. Raises JetrunnerError.

        As the bucket's leader has it, where that may be asked: by an older one a loss of the last messages is not noticed.
        """
        try:
            found = await self._kv.read_leader(self._key(stream, "*"))
        except PermissionDenied:
            found = await self._kv.read([self._key(stream, "*")])
        known = [floor.known for entry in found.values() if (floor := _read(entry.value)) is not None]
        return max(known, key=lambda each: (each.stored_ns, each.sequence), default=NOTHING)

    async def save(
        self, stream: str, durable: str, sequence: int, newest: Identity, subject: str = ""
    ) -> None:
        """Remember a floor that has moved; one that cannot be stored now is stored the next time.

        `newest` is a message of the same history that is no older than the floor.
        """
        saved = self._saved.get((stream, durable))
        if saved is not None and saved[:3] == (sequence, newest.created, subject):
            return
        with suppress(JetrunnerError):
            await self.place(stream, durable, sequence, newest, subject)

    async def place(
        self, stream: str, durable: str, sequence: int, newest: Identity, subject: str = ""
    ) -> None:
        """The same, wherever the floor was; what keeps it from being stored is raised. Raises JetrunnerError."""
        floor = Floor(sequence, newest.created, newest, subject or None)
        place = await self._kv.put(self._key(stream, durable), msgspec.json.encode(floor))
        self._saved[stream, durable] = sequence, newest.created, subject, place

    def looked(self, bucket: State) -> None:
        """Save again what the bucket no longer holds, because it was purged."""
        kept = {key: saved for key, saved in self._saved.items() if saved[3] >= bucket.first}
        self.lost += len(kept) < len(self._saved)
        self._saved = kept

    def forget(self, _first: int) -> None:
        """The bucket is another, or an older one: what is remembered there may be older, too."""
        self._saved.clear()
        self.lost += 1

    def _key(self, stream: str, durable: str) -> str:
        return f"floor.{self._project}.{stream}.{durable}"


def _read(value: bytes) -> Floor | None:
    return tolerant.read(read, value, "a floor") if value else None
