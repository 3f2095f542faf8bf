"""The ack floor of a durable, remembered outside of it: where to go on when somebody deletes the durable."""

from __future__ import annotations

import msgspec

from runner.core import checked
from runner.core.checked import Count, Line, Unfit
from runner.errors import JetrunnerError
from runner.jetstream.bucket import Bucket
from runner.jetstream.stray import pass_over


class Floor(msgspec.Struct, frozen=True):
    """Everything up to this sequence is settled, in the stream that was made at that time."""

    sequence: Count
    created: Line


read = checked.json(Floor)
"""What stands in the bucket; raises `Unfit`."""


class Floors:
    """The remembered floors of a project's durables."""

    def __init__(self, bucket: Bucket, project: str) -> None:
        self._bucket = bucket
        self._project = project
        self._saved: dict[tuple[str, str], Floor] = {}

    async def last(self, stream: str, durable: str, created: str) -> int | None:
        """The floor, None when none is known for this stream (one made anew counts as another)."""
        value = await self._bucket.get(self._key(stream, durable))
        if not value:
            return None
        try:
            floor = read(value)
        except Unfit as error:
            pass_over(self._key(stream, durable), error)
            return None
        return floor.sequence if floor.created == created else None

    async def save(self, stream: str, durable: str, sequence: int, created: str) -> None:
        """Remember a floor that has risen; one that cannot be stored now is stored the next time."""
        floor = Floor(sequence, created)
        if self._saved.get((stream, durable)) == floor:
            return
        try:
            await self._bucket.put(self._key(stream, durable), msgspec.json.encode(floor))
        except JetrunnerError:
            return
        self._saved[stream, durable] = floor

    def _key(self, stream: str, durable: str) -> str:
        return f"floor.{self._project}.{stream}.{durable}"
