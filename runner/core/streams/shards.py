"""`[shards]` and `source` of a stream file, and what a change of them would do to the order of stored messages.

Rule 1: the file has the number of shards and their tokens. The generation is read from the server; on creation it is 1.
Rule 2: another count or other tokens are never applied from the file: old and new messages of one key would be in two shards.
        A resize makes a new generation for them.
Rule 3: shards may be added to a stream when no consumer of others reads it, and no process reads it right now, because the filters
        of the consumers must change with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from runner.core import sharding
from runner.core.quantity import counted
from runner.core.sharding import Sharding
from runner.core.streams.danger import StreamHoldings
from runner.core.streams.field import FieldError, read_table, stream_name, suggestion
from runner.core.subject import Template

MOST = 1024


class Shards(Struct, frozen=True):
    """How a stream shall be sharded."""

    count: int
    by: tuple[str, ...]
    """The names of the tokens, in the order in which the subjects have them."""
    positions: tuple[int, ...]
    """The indexes of these tokens in a subject, from 0."""
    subjects: tuple[str, ...]
    """The subjects that are sharded, with `*` for every token: the stream's own, or those that it copies."""

    def transform(self, real: Mapping[str, Any] | None) -> dict[str, str]:
        """The stream's `subject_transform`, in the generation that the server has reached."""
        found = sharding.read(real or {})
        return sharding.transform(self.subjects, self.positions, self.count, found.generation if found else 1)

    def shown(self, real: Sharding | None = None) -> dict[str, Any] | None:
        """Count and tokens as the file would write them: the file's own, or those of a real stream."""
        if real is None:
            return {"count": self.count, "by": list(self.by)}
        names = dict(zip(self.positions, self.by, strict=True))
        return {
            "count": real.count,
            "by": [names.get(place, f"token {place + 1}") for place in real.positions],
        }


class Sharded(Struct, frozen=True):
    """The result of reading `[shards]` and `source` of a file."""

    fields: dict[str, Any]
    """The fields for the server, with those that follow from `[shards]` and `source`."""
    shards: Shards | None = None
    source: str = ""
    """The stream that this one copies; empty: this one has subjects of its own."""


def read(table: Mapping[str, Any], fields: Mapping[str, Any]) -> Sharded:
    """Read `[shards]` and `source` of a file; `fields` are its other fields. Raises FieldError with a dotted key."""
    if "shards" not in table:
        if "source" in table:
            raise FieldError("source", "[shards] is missing: to copy a stream as it is, use sources")
        return Sharded(dict(fields))
    for field, other in (
        ("subject_transform", "[shards] makes its own"),
        ("mirror", "a mirror cannot be sharded"),
    ):
        if fields.get(field):
            raise FieldError(field, other)
    if fields.get("sources"):
        raise FieldError("sources", 'to shard another stream, write source = "NAME" instead')
    if not fields.get("subjects"):
        raise FieldError("subjects", "missing: [shards] needs to know where the tokens of the key stand")
    shards = _shards(table["shards"], table["subjects"])
    if "source" not in table:
        return Sharded(dict(fields), shards)
    try:
        source = stream_name(table["source"])
    except ValueError as error:
        raise FieldError("source", str(error)) from None
    if source == fields.get("name"):
        raise FieldError("source", "a stream cannot copy itself")
    if "duplicate_window" in fields:
        raise FieldError(
            "duplicate_window", "it would drop what the other stream took in: leave it to that stream"
        )
    after = {key: value for key, value in fields.items() if key != "subjects"}
    return Sharded({**after, "sources": copied(source, shards.subjects)}, shards, source)


def _shards(table: object, subjects: Sequence[str]) -> Shards:
    found = read_table(table, "shards", {"count": _count, "by": _names})
    templates = [Template.parse(subject) for subject in subjects]
    if "count" not in found:
        raise FieldError("shards.count", "missing: say how many, as count = 32")
    if "by" not in found:
        example = next((name for template in templates for name in template.names), "account")
        raise FieldError("shards.by", f'missing: name the tokens of the key, as by = ["{example}"]')
    places = {name: _place(name, templates) for name in found["by"]}
    by = tuple(sorted(places, key=lambda name: places[name]))
    shards = Shards(
        count=found["count"],
        by=by,
        positions=tuple(places[name] for name in by),
        subjects=tuple(template.wildcard for template in templates),
    )
    try:
        shards.transform(None)
    except ValueError as error:
        raise FieldError("shards.by", str(error)) from None
    return shards


def judge(
    shards: Shards, stream: str, real: Mapping[str, Any], holdings: StreamHoldings
) -> tuple[bool, str] | None:
    """Whether an existing stream may get the declared shards, and a sentence about that; None: it has them already."""
    found = sharding.read(real)
    if found is not None:
        if (found.count, found.positions) == (shards.count, shards.positions):
            return None
        resize = f"run `runner shard resize {stream} {shards.count}`"
        if found.positions == shards.positions:
            back = f"count = {found.count}"
        else:
            resize += ", which takes `by` from the file"
            back = "the tokens it has"
        return False, f"a key would stand in two shards at once: {resize}, or go back to {back} in the file"
    strangers = [reader.name for reader in holdings.readers if not reader.ours]
    if strangers:
        return False, (
            f"consumer {strangers[0]} is not this project's: it filters on subjects as they are published, "
            "and would miss all that comes: let its owner delete it, or take [shards] back in the file"
        )
    if holdings.messages and real.get("subject_transform"):
        return False, (
            "the stream transforms its subjects already, and holds messages under those: make a new stream"
        )
    busy = [reader.name for reader in holdings.readers if reader.waiting]
    if busy:
        return False, (
            f"runners read with the consumer {busy[0]} right now: stop all that read {stream}, apply this, "
            "and start them again; shards are added only once"
        )
    if not holdings.messages:
        return True, ""
    return True, (
        f"what is stored already ({counted(holdings.messages, 'message')}) is generation 0, which is one shard: "
        "functions that keep order drain it first"
    )


def copied(source: str, subjects: Sequence[str]) -> list[dict[str, Any]]:
    """Make the `sources` of a stream that shards another one: it copies these subjects, unchanged.

    The stream's own `subject_transform` applies to copied messages, too, and may change. Transforms in the source must not
    change: the server then copies everything again, from the beginning (measured on 2.15).
    """
    if len(subjects) == 1:
        return [{"name": source, "filter_subject": subjects[0]}]
    return [{"name": source, "subject_transforms": [{"src": subject, "dest": ""} for subject in subjects]}]


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number")
    if not 1 <= value <= MOST:
        raise ValueError(f"{value} is not between 1 and {MOST:,}")
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f'{value!r} is not a list of tokens: write ["account"]')
    if not value:
        raise ValueError("empty: name the tokens of the key")
    if len(set(value)) < len(value):
        raise ValueError("a token is named twice")
    return tuple(value)


def _place(name: str, templates: Sequence[Template]) -> int:
    places: dict[int, Template] = {}
    for template in templates:
        if name not in template.names:
            advice = suggestion(name, template.names) or f": write {{{name}}}"
            raise FieldError("shards.by", f'"{name}" is not a token of the subject "{template.text}"{advice}')
        places.setdefault(template.positions[template.names.index(name)], template)
    if len(places) > 1:
        (one, first), (other, second), *_ = places.items()
        raise FieldError(
            "shards.by",
            f'"{name}" must stand at the same place in every subject: it is token {one + 1} of "{first.text}", '
            f'but token {other + 1} of "{second.text}"',
        )
    return next(iter(places))
