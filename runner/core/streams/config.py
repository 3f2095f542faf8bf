"""Stream configurations: how the declared one differs from the server's, and which of the differences may be applied.

Rule 1: a field that the file does not name stays as it is on an existing stream. Only the fields that Jetrunner itself needs
        (`allow_direct`, `allow_atomic`, a `duplicate_window` of 15 minutes, a subject for fences) are set even if the file
        does not name them.
Rule 2: a change is unsafe when the server refuses it, when it deletes messages or takes them from a reader now,
        when it cannot be undone, or when it weakens a promise. Every other change is safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from runner.core import fence, quantity, sharding
from runner.core.streams.conflict import conflict
from runner.core.streams.danger import StreamHoldings, danger
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
    """One stream, as a file of streams/ declares it."""

    name: str
    file: str
    """The file's path, relative to the project."""
    fields: dict[str, Any]
    """The fields that the file names, as the server wants them: nanoseconds, bytes, `*` for `{token}`."""
    shards: Shards | None = None
    source: str = ""
    """The stream that this one copies in order to shard it; then this one has no subjects of its own."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects that the stream captures, with `*` for every token."""
        return tuple(self.fields.get("subjects", ()))


class Change(Struct, frozen=True):
    """One field that differs; values are the server's own (nanoseconds, bytes)."""

    field: str
    real: Any
    declared: Any
    safety: Safety
    why: str = ""


def wanted(declared: DeclaredStream, real: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields that the stream must have: those that the file names, and those that Jetrunner needs."""
    fields = dict(CREATED_WITH if real is None else {})
    fields.update(declared.fields)
    after = {**(real or {}), **fields}
    if after.get("mirror"):
        return fields  # a mirror has no subjects, batches or duplicates of its own
    fields.setdefault("allow_direct", True)
    if after.get("persist_mode") != "async":
        fields.setdefault("allow_atomic", True)
    if declared.shards is not None:
        fields["subject_transform"] = declared.shards.transform(real)
    if subjects := fence.subjects(declared.name, {**after, **fields}, held=fence.holds(real or {})):
        fields["subjects"] = list(subjects)
    if declared.source:
        fields["duplicate_window"] = (
            0  # a message that the other stream stored twice on purpose is here twice, too
        )
    if "duplicate_window" not in fields:
        window = max(after.get("duplicate_window") or 0, DUPLICATE_WINDOW)
        fields["duplicate_window"] = min(window, after.get("max_age") or window)
    return fields


def merged(declared: DeclaredStream, real: Mapping[str, Any] | None) -> dict[str, Any]:
    """The whole configuration to send, because for the server an update replaces the configuration."""
    after = {**(real or {}), **wanted(declared, real)}
    if metadata := {**((real or {}).get("metadata") or {}), **declared.fields.get("metadata", {})}:
        after["metadata"] = metadata
    return after


def difference(
    declared: DeclaredStream, real: Mapping[str, Any] | None, holdings: StreamHoldings | None = None
) -> tuple[Change, ...]:
    """Compare the stream as it is with the stream as declared, field by field; empty when they agree."""
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
    if resharded := _resharded(declared, real, holdings or StreamHoldings()):
        changes.append(resharded)
        del fields["subject_transform"]
    for field, value in fields.items():
        was = real.get(field)
        if field == "metadata":
            was = {key: text for key, text in (was or {}).items() if key in value}
        if field == "name" or _bare(was) == _bare(value):
            continue
        why = danger(field, was, value, after, holdings or StreamHoldings())
        if clash is not None and field in clash[0]:
            why = clash[1]
        changes.append(Change(field, was, value, "unsafe" if why else "safe", why))
    return tuple(changes)


def _resharded(declared: DeclaredStream, real: Mapping[str, Any], holdings: StreamHoldings) -> Change | None:
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
    """Give equal results for equal settings: an unset field may be absent, null, 0, -1, "none" or empty."""
    if isinstance(value, Mapping):
        return {key: _bare(item) for key, item in value.items() if _bare(item) is not None} or None
    if isinstance(value, (list, tuple)):
        return sorted((_bare(item) for item in value), key=repr) or None
    return None if value in (None, "", 0, -1, "none", "default") else value
