"""What a stream file asks for, what the server has, and which of the differences may be applied.

Rule 1: a field the file does not name stays as it is on an existing stream; only what Jetrunner itself needs
        (`allow_direct`, `allow_atomic`, a `duplicate_window` of 15 minutes, a subject for fences) is set without
        being asked for.
Rule 2: a change is unsafe when the server refuses it, when it deletes messages or takes them from a reader now,
        when it cannot be taken back, or when it lowers what is promised. Everything else is safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from runner.core import fence, quantity, sharding
from runner.core.streams.conflict import conflict
from runner.core.streams.danger import Holdings, danger
from runner.core.streams.shards import Shards, judge

Safety: TypeAlias = Literal["create", "safe", "unsafe"]

DUPLICATE_WINDOW = 15 * 60 * 1_000_000_000
CREATED_WITH: Mapping[str, Any] = {
    "retention": "limits",
    "storage": "file",
    "discard": "old",
    "num_replicas": 1,
}
DURATIONS = frozenset({"max_age", "duplicate_window", "subject_delete_marker_ttl"})
SIZES = frozenset({"max_bytes", "max_msg_size"})


class DeclaredStream(Struct, frozen=True):
    """One file of streams/."""

    name: str
    file: str
    """Relative to the project, as in messages."""
    fields: dict[str, Any]
    """Only what the file names, as the server wants it: nanoseconds, bytes, `*` for `{token}`."""
    shards: Shards | None = None
    source: str = ""
    """The stream that this one copies in order to shard it; it has no subjects of its own then."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """What it captures, with `*` for every token."""
        return tuple(self.fields.get("subjects", ()))


class Change(Struct, frozen=True):
    """One field that differs; values are the server's own (nanoseconds, bytes)."""

    field: str
    real: Any
    declared: Any
    safety: Safety
    why: str = ""


def wanted(declared: DeclaredStream, real: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields that must stand in the stream: those the file names, and those Jetrunner needs."""
    fields = dict(CREATED_WITH if real is None else {})
    fields.update(declared.fields)
    after = {**(real or {}), **fields}
    if after.get("mirror"):
        return fields  # it copies another stream: no subjects, no batches, no duplicates of its own
    fields.setdefault("allow_direct", True)
    if after.get("persist_mode") != "async":
        fields.setdefault("allow_atomic", True)
    if declared.shards is not None:
        fields["subject_transform"] = declared.shards.transform(real)
    if subjects := fence.subjects(declared.name, {**after, **fields}, held=fence.holds(real or {})):
        fields["subjects"] = list(subjects)
    if declared.source:
        fields["duplicate_window"] = (
            0  # whatever the other stream took in twice on purpose stands here twice, too
        )
    if "duplicate_window" not in fields:
        window = max(after.get("duplicate_window") or 0, DUPLICATE_WINDOW)
        fields["duplicate_window"] = min(window, after.get("max_age") or window)
    return fields


def merged(declared: DeclaredStream, real: Mapping[str, Any] | None) -> dict[str, Any]:
    """The whole configuration to send: the server takes an update as a replacement."""
    after = {**(real or {}), **wanted(declared, real)}
    if metadata := {**((real or {}).get("metadata") or {}), **declared.fields.get("metadata", {})}:
        after["metadata"] = metadata
    return after


def difference(
    declared: DeclaredStream, real: Mapping[str, Any] | None, holdings: Holdings | None = None
) -> tuple[Change, ...]:
    """Field by field, the stream as it is against the stream as declared; empty when nothing is to do."""
    fields = wanted(declared, real)
    if real is None:
        values = {**fields, "duplicate_window": fields.get("duplicate_window") or None}
        if declared.shards is not None:
            values |= {"subject_transform": None, "shards": declared.shards.shown()}
        return tuple(
            Change(field, None, value, "create")
            for field, value in values.items()
            if field != "name" and value is not None
        )
    after = merged(declared, real)
    clash = conflict(after)
    changes = []
    if resharded := _resharded(declared, real, holdings or Holdings()):
        changes.append(resharded)
        del fields["subject_transform"]
    for field, value in fields.items():
        was = real.get(field)
        if field == "metadata":
            was = {key: text for key, text in (was or {}).items() if key in value}
        if field == "name" or _bare(was) == _bare(value):
            continue
        why = danger(field, was, value, after, holdings or Holdings())
        if clash is not None and field in clash[0]:
            why = clash[1]
        changes.append(Change(field, was, value, "unsafe" if why else "safe", why))
    return tuple(changes)


def _resharded(declared: DeclaredStream, real: Mapping[str, Any], holdings: Holdings) -> Change | None:
    if declared.shards is None:
        return None
    found = judge(declared.shards, declared.name, real, holdings)
    if found is None:
        return None
    safe, why = found
    now = sharding.read(real)
    was = real.get("subject_transform") if now is None else declared.shards.shown(now)
    return Change("shards", was, declared.shards.shown(), "safe" if safe else "unsafe", why)


def shown(field: str, value: Any) -> str:
    """A value as a person would write it into the file."""
    if value is None:
        return "nothing"
    if field in DURATIONS:
        return quantity.format_nanoseconds(value)
    if field in SIZES and value > 0:
        return quantity.format_size(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(shown("", item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {shown('', item)}" for key, item in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _bare(value: Any) -> Any:
    """Equal for two ways to say the same: what is unset may be absent, null, 0, -1, "none" or empty."""
    if isinstance(value, Mapping):
        return {key: _bare(item) for key, item in value.items() if _bare(item) is not None} or None
    if isinstance(value, (list, tuple)):
        return sorted((_bare(item) for item in value), key=repr) or None
    return None if value in (None, "", 0, -1, "none", "default") else value
