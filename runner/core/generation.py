"""Generations of a stream's shards, and which one of them a function works on.

Rule 1: a change of the number of shards makes a new generation: messages that are stored stay in their shards.
Rule 2: a function works on one generation at a time, the oldest with messages for it. The next one opens when every shard of the
        current one is drained, and every lane in it is free.
Rule 3: generation 0 holds the messages that were stored before the stream was sharded: one shard.
Rule 4: each generation has its own count and tokens. The tokens are a subset of the key's tokens of each function that works on it,
        so that all messages of a key are in one shard.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from runner.core import checked, sharding
from runner.core.checked import Count, Index, Line, Stream, SubjectPattern
from runner.core.history import NOTHING, Identity
from runner.core.sharding import Sharding

MOST_SHARDS = 1024
MOST_GENERATIONS = 100_000
"""The highest generation that a record may name, because the code counts through all of them."""

Generation: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_GENERATIONS)]
Positions: TypeAlias = Annotated[tuple[Index, ...], Meta(max_length=256)]

METADATA = "jetrunner.shards"
"""The key of the stream's metadata with the number of shards of each generation from 1 on, separated by commas."""
METADATA_BY = "jetrunner.shards.by"
"""The key with the indexes of the tokens that choose the shard in each generation, `1` or `1+3`; absent until they change."""


class OpenGeneration(Struct, frozen=True):
    """The generation that all instances of a function work on; kept in the bucket, changed by compare-and-set."""

    stream: Stream
    created: Line
    """When the stream was made: for a stream that was made again, generations begin again."""
    subject: SubjectPattern
    """The subject that the function reads there, as published."""
    generation: Generation
    count: Annotated[int, Meta(ge=1, le=MOST_SHARDS)]
    """Shards of this generation."""
    positions: Positions = ()
    first: Count = 0
    """The first sequence that the function was ever meant to read; 0: from the beginning."""
    start: Count = 0
    """The first sequence that the consumers of this generation read; 0: from the beginning."""
    through: Count = 0
    """All messages of other generations up to this sequence are settled."""
    to: Annotated[int, Meta(ge=-1, le=MOST_GENERATIONS)] = -1
    """The generation that opens next; -1: none. While it is set, no messages start, and all claims are given back."""
    keys: Positions = ()
    """Indexes of the tokens that make the function's key, as the instance that wrote this has them; empty: not known."""
    turn: Count = 0
    """How often a generation began to close. Claims are sealed with it: an instance that knows only an earlier turn takes none of them."""
    newest: Identity = NOTHING
    """The newest message of the stream when this was written. If another message has its place by now, these sequences are void."""

    @property
    def known(self) -> Identity:
        """Identifies the stream's history that the sequences belong to; `NOTHING` if there are no sequences."""
        last = max(self.first - 1, self.start - 1, self.through)
        if last <= 0:
            return NOTHING
        return self.newest if self.newest.sequence >= last else Identity(self.created, last)

    def back(self, first: int) -> OpenGeneration:
        """The stream went back: from sequence `first` on, its messages are not those from when this was written."""
        return self._with(
            first=min(self.first, first),
            start=min(self.start, first),
            through=min(self.through, first - 1),
        )

    @property
    def closing(self) -> bool:
        """Whether the shards are being given back, because another generation opens."""
        return self.to >= 0

    @property
    def sharding(self) -> Sharding:
        """The shards that are open."""
        return Sharding(self.generation, self.count, self.positions if self.generation else ())

    def left_behind(self, generation: int, last: int) -> bool:
        """Whether a generation that was left has messages, up to `last`, that came after it was left."""
        return generation < self.generation and last > self.through

    def towards(self, generation: int, through: int) -> OpenGeneration:
        """The same, closing: `generation` opens when all claims have been given back."""
        turn = self.turn if self.closing else self.turn + 1
        return self._with(to=generation, through=max(self.through, through), turn=turn)

    def reopened(self) -> OpenGeneration:
        """The same, open again: something came in at the last moment."""
        return self._with(to=-1)

    def opened(self, count: int, positions: tuple[int, ...]) -> OpenGeneration:
        """The generation `to`, open now; a generation that had been left is read from where it was left."""
        start = self.through + 1 if self.to < self.generation else self.first
        return self._with(generation=self.to, count=count, positions=positions, start=start, to=-1)

    def corrected(self, now: Sharding, subject: str, keys: tuple[int, ...]) -> OpenGeneration:
        """The same generation, with the shards of the stream and the subject and key of the function as they are now."""
        return self._with(count=now.count, positions=now.positions, subject=subject, keys=keys)

    def _with(self, **changes: Any) -> OpenGeneration:
        return OpenGeneration(**{field: getattr(self, field) for field in self.__struct_fields__} | changes)


read = checked.json(OpenGeneration)
"""Decode the bucket's record; raises `Unfit`."""


def stored_subject(pattern: str, generation: int) -> str:
    """Name the subjects under which a generation stores the messages that a pattern matches, in all its shards."""
    return f"shard.{generation}.*.{pattern}" if generation else pattern


def oldest(
    stored: Mapping[int, int], standing: Mapping[int, int], newest: int, *, deliver: str = "all"
) -> tuple[int, int]:
    """Where a function without a record begins: the generation, and the sequence up to which the others are settled.

    `stored` is the last sequence of each generation with messages for the function, `standing` the number of its durables in each.
    A generation without durables was drained if a later generation has some.
    """
    if standing:
        begin = min(standing)
    elif deliver == "new":
        begin = newest
    else:
        begin = min((each for each in stored if stored[each]), default=newest)
    begin = min(begin, newest)
    return begin, max((sequence for each, sequence in stored.items() if each < begin), default=0)


def following(current: OpenGeneration, stored: Mapping[int, int], newest: int) -> int:
    """Name the generation that follows the drained one: the next with messages for the function, or the newest."""
    later = (
        each for each in range(current.generation + 1, newest) if stored.get(each, 0) >= max(1, current.first)
    )
    return min(later, default=newest)


def straggler(current: OpenGeneration, stored: Mapping[int, int]) -> int:
    """Name the oldest generation that got messages after it was left; -1: none did."""
    late = (each for each, last in stored.items() if current.left_behind(each, last))
    return min(late, default=-1)


def counts(config: Mapping[str, Any]) -> dict[int, int]:
    """The number of shards of each generation, as far as the stream's configuration has it."""
    now = sharding.read(config) or Sharding()
    try:
        told = [int(text) for text in (config.get("metadata") or {}).get(METADATA, "").split(",") if text]
    except ValueError:
        told = []
    before = {
        generation: count
        for generation, count in enumerate(told, 1)
        if generation < now.generation and 0 < count <= MOST_SHARDS
    }
    return {0: 1, **before, now.generation: now.count}


def positions(config: Mapping[str, Any], generation: int) -> tuple[int, ...]:
    """The indexes of the tokens by which a generation is sharded; the present ones when the metadata has no others."""
    now = sharding.read(config) or Sharding()
    told = ((config.get("metadata") or {}).get(METADATA_BY) or "").split(",")
    try:
        if 0 < generation < now.generation and generation <= len(told):
            return tuple(int(text) for text in told[generation - 1].split("+"))
    except ValueError:
        pass
    return now.positions


def splitting(subject: str, keys: Collection[int], by: Iterable[int]) -> int | None:
    """Name the first token of `by` that would put a key's messages into several shards; None: all are in one."""
    tokens = subject.split(".")
    for place in by:
        if place not in keys and (place >= len(tokens) or tokens[place] in ("*", ">")):
            return place
    return None


def resized(config: Mapping[str, Any], count: int, by: tuple[int, ...] = ()) -> dict[str, Any]:
    """Make a sharded stream's configuration for its next generation, with another number of shards or other tokens.

    ValueError says why that is not possible.
    """
    if not 1 <= count <= MOST_SHARDS:
        raise ValueError(f"{count} is not between 1 and {MOST_SHARDS:,}")
    now = sharding.read(config)
    if now is None:
        raise ValueError("the stream is not sharded: add [shards] to its file, and run `runner apply`")
    transform = config.get("subject_transform")
    if not transform:
        raise ValueError("its shards are made where it copies from: the server would copy everything again")
    known = counts(config)
    told = [known.get(generation, 0) for generation in range(1, now.generation + 1)]
    by = by or now.positions
    after = sharding.transform([transform["src"]], by, count, now.generation + 1)
    metadata = {**(config.get("metadata") or {}), METADATA: ",".join(map(str, [*told, count]))}
    if METADATA_BY in metadata or by != now.positions:
        before = [positions(config, generation) for generation in range(1, now.generation + 1)]
        metadata[METADATA_BY] = ",".join("+".join(map(str, each)) for each in [*before, by])
    return {**config, "subject_transform": after, "metadata": metadata}
