"""Sharding by subject: the subjects that a sharded stream stores, and the shard of each message.

Rule 1: a message is stored as `shard.<generation>.<shard>.<original subject>`; users only ever see the original.
Rule 2: the shard is the server's own `partition()`: FNV-1a 32 over the key's tokens, one after another, mod count.
        The server hashes their bytes, which need not be text.
Rule 3: messages stored before the stream was sharded are generation 0: their subjects are unchanged, their shard is 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, AnyStr

from msgspec import Struct

from runner.core.subject import covers, overlaps

_PREFIX = "shard"
_DOT: dict[type, str | bytes] = {str: ".", bytes: b"."}
_STORED = re.compile(rf"{_PREFIX}\.([0-9]+)\.([0-9]+)\.(.+)", re.DOTALL)
_STORED_BYTES = re.compile(_STORED.pattern.encode(), re.DOTALL)
_DEST = re.compile(rf"{_PREFIX}\.(\d+)\.\{{\{{partition\((\d+(?:,\d+)+)\)\}}\}}\..+")


class Sharding(Struct, frozen=True):
    """How a stream is sharded now; `Sharding()` is a stream without sharding: generation 0, one shard."""

    generation: int = 0
    """The number of the generation, from 1; it grows with each change of count or tokens."""
    count: int = 1
    """How many shards the generation has; they are numbered from 0."""
    positions: tuple[int, ...] = ()
    """Indexes, from 0, of the key's tokens in the original subject, in the order they are hashed."""

    def shard_of(self, subject: str) -> int:
        """Tell the shard of an original subject; ValueError when it is too short to hold the key."""
        tokens = subject.split(".")
        try:
            hashed = [tokens[position].encode("utf-8", "surrogateescape") for position in self.positions]
        except IndexError:
            raise ValueError(f"subject {subject!r} has no token {max(self.positions) + 1}") from None
        return partition(hashed, self.count)

    def key_of(self, subject: str) -> str:
        """Give the key by which the shard is chosen: its tokens, joined by dots."""
        return key(subject, self.positions)


def partition(tokens: Iterable[bytes], count: int) -> int:
    """Number the shard of a key, from 0: what the server's `{{partition(count, …)}}` gives for these tokens."""
    value = 0x811C9DC5
    for token in tokens:
        for byte in token:
            value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value % count


def key(subject: AnyStr, positions: Sequence[int]) -> AnyStr:
    """Join the tokens at these positions by dots; ValueError when the subject is too short."""
    dot: Any = _DOT[type(subject)]
    try:
        if len(positions) == 1:
            only: AnyStr = subject.split(dot, positions[0] + 1)[positions[0]]
            return only
        tokens = subject.split(dot)
        joined: AnyStr = dot.join([tokens[position] for position in positions])
    except IndexError:
        raise ValueError(f"subject {subject!r} has no token {max(positions) + 1}") from None
    return joined


def transform(
    subjects: Sequence[str], positions: Sequence[int], count: int, generation: int
) -> dict[str, str]:
    """Make the `subject_transform` that shards a stream of these subjects, wildcards and all.

    The server allows a stream one transform, so it must fit every subject; ValueError says why it cannot.
    """
    if not positions:
        raise ValueError("no token is named to shard by")
    if len(set(positions)) < len(positions):
        raise ValueError("a token is named twice")
    if not 1 <= count <= 2**31 - 1 or generation < 1:
        raise ValueError(f"{count} shards in generation {generation}: both are counted from 1")
    for subject in subjects:
        if subject.split(".", 1)[0] == _PREFIX:
            raise ValueError(
                f'"{subject}": subjects that start with "{_PREFIX}" are those of stored messages'
            )
    source = _common(subjects, positions)
    wildcards = [position for position, token in enumerate(source) if token == "*"]  # noqa: S105 — a subject's token
    numbers = {position: number for number, position in enumerate(wildcards, 1)}
    hashed = ",".join(str(numbers[position]) for position in positions)
    tokens = [
        f"{{{{wildcard({numbers[position]})}}}}" if position in numbers else token
        for position, token in enumerate(source)
    ]
    return {
        "src": ".".join(source),
        "dest": ".".join([_PREFIX, str(generation), f"{{{{partition({count},{hashed})}}}}", *tokens]),
    }


def _common(subjects: Sequence[str], positions: Sequence[int]) -> list[str]:
    """The tokens of the narrowest pattern that covers every subject and has a `*` for each token of the key."""
    if not subjects:
        raise ValueError("the stream has no subjects")
    split = [subject.split(".") for subject in subjects]
    open_ended = len({len(tokens) for tokens in split}) > 1 or any(tokens[-1] == ">" for tokens in split)
    # `>` stands for at least one token, so it also covers the last token of the shortest subject.
    fixed = min(map(len, split)) - open_ended
    for position in positions:
        for subject, tokens in zip(subjects, split, strict=True):
            if position >= len(tokens) or tokens[position] == ">":
                raise ValueError(f'"{subject}" has no token {position + 1} to shard by')
        if position >= fixed:
            shortest = min(subjects, key=lambda subject: subject.count("."))
            raise ValueError(
                f'token {position + 1} is the last of "{shortest}", but other subjects go on behind it: '
                "the server's one transform cannot fit both"
            )
    columns = [{tokens[position] for tokens in split} for position in range(fixed)]
    source = [
        column.pop() if len(column) == 1 and position not in positions else "*"
        for position, column in enumerate(columns)
    ]
    return [*source, ">"] if open_ended else source


def read(config: Mapping[str, Any]) -> Sharding | None:
    """Read the sharding of a stream from its configuration on the server; None when no transform of ours shards it.

    The stream's own transform applies to messages that it copies from other streams, too (measured); without one, those of its
    sources count.
    """
    if config.get("subject_transform"):
        return _read(config["subject_transform"])
    found: list[Mapping[str, Any]] = []
    for source in config.get("sources") or ():
        found += source.get("subject_transforms") or ({},)
    shardings = {_read(each) for each in found}
    return shardings.pop() if len(shardings) == 1 else None


def _read(entry: Mapping[str, Any]) -> Sharding | None:
    source, dest = entry.get("src") or ">", (entry.get("dest") or "").replace(" ", "")
    match = _DEST.fullmatch(dest)
    if match is None:
        return None
    generation = int(match[1])
    count, *numbers = map(int, match[2].split(","))
    wildcards = [position for position, token in enumerate(source.split(".")) if token == "*"]  # noqa: S105 — the same
    try:
        positions = tuple(wildcards[number - 1] for number in numbers)
        ours = transform([source], positions, count, generation)
    except (IndexError, ValueError):
        return None
    return Sharding(generation, count, positions) if ours["dest"] == dest else None


def original(subject: AnyStr) -> AnyStr:
    """Remove `shard.<generation>.<shard>.` from a stored subject; a subject without it stays as it is."""
    if isinstance(subject, str):
        return match[3] if (match := _STORED.fullmatch(subject)) else subject
    return found[3] if (found := _STORED_BYTES.fullmatch(subject)) else subject


def reads_all(pattern: str, subjects: Iterable[str]) -> bool:
    """Tell whether a pattern matches all that publishers may store in a stream with these subjects, except our own fences.

    A stream without subjects copies from other streams, so nobody can tell: False.
    """
    theirs = [subject for subject in subjects if not subject.startswith("_jetrunner.")]
    return bool(theirs) and all(covers(pattern, subject) for subject in theirs)


def reader(pattern: str) -> Callable[[bytes], bytes | None]:
    """Make a function from a stored subject to its original one; it gives None when that does not match the pattern."""
    forms = {"*": "[^.]+", ">": ".+"}
    wanted = r"\.".join(forms.get(token) or re.escape(token) for token in pattern.split("."))
    stored = re.compile(rf"(?:{_PREFIX}\.\d+\.\d+\.)?({wanted})".encode(), re.DOTALL)

    def read_subject(subject: bytes) -> bytes | None:
        match = stored.fullmatch(subject)
        return match[1] if match else None

    return read_subject


def place(subject: str) -> tuple[int, int]:
    """Tell generation and shard of a stored subject; (0, 0) when it was stored before the stream was sharded."""
    return (int(match[1]), int(match[2])) if (match := _STORED.fullmatch(subject)) else (0, 0)


def filters(pattern: str) -> list[str]:
    """Name the stored subjects that a function without order reads in a sharded stream, for all generations.

    ValueError for the few patterns whose two forms overlap, which the server refuses in one consumer.
    """
    stored = f"{_PREFIX}.*.*.{pattern}"
    if not overlaps(pattern, stored):
        return [pattern, stored]
    if pattern in {">", "*.>"}:
        return [pattern]  # no sharded stream mixes subjects of one token with longer ones
    raise ValueError(f'"{pattern}" also matches stored subjects of a sharded stream: name its first token')


def shard_filter(pattern: str, generation: int, shard: int) -> str:
    """Name the stored subjects of one shard whose originals match a pattern."""
    return f"{_PREFIX}.{generation}.{shard}.{pattern}" if generation else pattern
