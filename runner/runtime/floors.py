"""The ack floor of a durable, kept in the bucket: it says where to continue if the durable is deleted."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from runner.core import checked
from runner.core.checked import Count, Line, SubjectPattern
from runner.core.history import NOTHING, Identity, StreamState
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream import tolerant
from runner.jetstream.kv import KV


class Floor(msgspec.Struct, frozen=True):
    """All messages up to this sequence are settled, in the history of the stream that the floor was read in."""

    sequence: Count
    created: Line
    """When the stream was made."""
    newest: Identity = NOTHING
    """The newest message that the stream had when the floor was read."""
    subject: SubjectPattern | None = None
    """The subject that the durable read then, as published; None: not known."""

    @property
    def known(self) -> Identity:
        """Identifies the stream's history that the floor belongs to. Without `newest` it has only the floor's sequence."""
        return self.newest if self.newest.sequence else Identity(self.created, self.sequence)


read = checked.json(Floor)
"""Reads a floor from the bucket; raises `Unfit`."""


class Floors:
    """The remembered floors of a project's durables."""

    def __init__(self, kv: KV, project: str) -> None:
        self._kv = kv
        self._project = project
        self._saved: dict[tuple[str, str], tuple[int, str, str, int]] = {}
        """Each saved floor: its sequence, when its stream was made, the durable's subject, and the revision of its record in the bucket."""

        self.lost = 0
        """How many times the bucket has lost records."""

    async def last(self, stream: str, durable: str) -> Floor | None:
        """The floor, read from the bucket's leader, because an old one would run settled messages again; None if none is known."""
        return _read((await self._kv.get(self._key(stream, durable))).value)

    async def newest(self, stream: str) -> Identity:
        """The newest message of the stream that any durable's floor knows. Raises JetrunnerError.

        It is read from the bucket's leader if the credentials allow that: an older value would hide a loss of the last messages.
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
        """Save a floor if it has moved. If it cannot be stored now, it is stored the next time.

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
        """Save a floor even if it has not moved. Raises JetrunnerError."""
        floor = Floor(sequence, newest.created, newest, subject or None)
        place = await self._kv.put(self._key(stream, durable), msgspec.json.encode(floor))
        self._saved[stream, durable] = sequence, newest.created, subject, place

    def looked(self, bucket: StreamState) -> None:
        """Forget the saved floors that were purged from the bucket, so that they are saved again."""
        kept = {key: saved for key, saved in self._saved.items() if saved[3] >= bucket.first}
        self.lost += len(kept) < len(self._saved)
        self._saved = kept

    def forget(self, _first: int) -> None:
        """Forget all saved floors, so that they are saved again: the bucket is another or went back, and its floors may be old."""
        self._saved.clear()
        self.lost += 1

    def _key(self, stream: str, durable: str) -> str:
        return f"floor.{self._project}.{stream}.{durable}"


def _read(value: bytes) -> Floor | None:
    return tolerant.read(read, value, "a floor") if value else None
