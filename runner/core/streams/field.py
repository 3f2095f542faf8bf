"""The fields of a JetStream stream configuration, and how a stream file may write them.

Rule 1: a field has NATS's own JSON name; an unknown one is an error, never passed on.
Rule 2: durations are text ("15m") or seconds; sizes are text ("1GiB") or bytes. The server gets nanoseconds and bytes.
Rule 3: a `{token}` is written wherever a subject is matched (subjects, filters, sources of transforms); it becomes `*`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from runner.core import quantity
from runner.core.subject import Template

Read: TypeAlias = Callable[[Any], Any]

LONGEST = 2**63 - 1
FIRST_LETTERS_OF_INTERNAL_METADATA = "_nats."
OURS = ("shards", "source")
"""The keys of a stream file that are not the server's; other modules read them."""


class FieldError(ValueError):
    """A field cannot have the value in the file; `key` is the field's dotted name."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def suggestion(word: str, known: Iterable[str]) -> str:
    """Write `; did you mean "…"?`, or nothing when no word is near."""
    near = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def read(table: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields as the server wants them; FieldError names the first wrong one."""
    return _read(table, FIELDS, prefix="")


def read_table(value: object, name: str, fields: Mapping[str, Read]) -> dict[str, Any]:
    """Read the fields of a table that is not the server's own; FieldError names the first wrong one."""
    if not isinstance(value, Mapping):
        raise FieldError(name, f"{_shown(value)} is not a table: write [{name}]")
    return _read(value, fields, prefix=f"{name}.")


def _read(table: Mapping[str, Any], fields: Mapping[str, Read], *, prefix: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        if name not in fields:
            known = (*fields, *OURS) if fields is FIELDS else fields
            raise FieldError(key, f"no such field{suggestion(name, known)}")
        try:
            result[name] = fields[name](value)
        except FieldError as error:
            raise FieldError(f"{key}.{error.key}" if error.key else key, str(error)) from None
        except (ValueError, TypeError) as error:
            raise FieldError(key, str(error)) from None
    return result


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not a text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_shown(value)} is not a whole number")
    return value


def _limit(value: object) -> int:
    number = _number(value)
    if not -1 <= number <= LONGEST:
        raise ValueError(f"{number} is not a limit: use a number above 0, or -1 for no limit")
    return number or -1  # the server reads 0 as "no limit" and answers with -1


def _size(value: object) -> int:
    return _limit(quantity.size(value) if isinstance(value, str) else value)


def _message_size(value: object) -> int:
    number = _size(value)
    if number > 2**31 - 1:
        raise ValueError(f"{_shown(value)} is over 2 GiB, the most the server takes")
    return number


def _duration(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f'{_shown(value)} is not a duration: write "15m", or a number of seconds')
    nanoseconds = quantity.nanoseconds(value)
    if nanoseconds < 0:
        raise ValueError(f"{_shown(value)} is negative")
    if nanoseconds > LONGEST:
        raise ValueError(f"{_shown(value)} is over 292 years; a bare number counts seconds")
    return nanoseconds


def _window(value: object) -> int:
    nanoseconds = _duration(value)
    if 0 < nanoseconds < 100_000_000:
        raise ValueError(f"{_shown(value)} is under 100ms, the least the server takes")
    return nanoseconds


def _marker_lifetime(value: object) -> int:
    nanoseconds = _duration(value)
    if 0 < nanoseconds < 1_000_000_000:
        raise ValueError(f"{_shown(value)} is under 1s, the least the server takes")
    return nanoseconds


def _replicas(value: object) -> int:
    number = _number(value)
    if not 1 <= number <= 5:
        raise ValueError(f"{number} is not between 1 and 5")
    return number


def _position(value: object) -> int:
    number = _number(value)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number


def _moment(value: object) -> str:
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        raise ValueError(
            f"{value} is not a moment with a time zone: write 2026-01-31T12:00:00Z, without quotes"
        )
    text = value.astimezone(datetime.UTC).isoformat().removesuffix("+00:00")
    return (text.rstrip("0") if "." in text else text) + "Z"  # as the server writes it


def stream_name(value: object) -> str:
    """Check the name of a stream; ValueError when it cannot be one."""
    name = _text(value)
    if not name:
        raise ValueError("empty")
    if bad := sorted({c for c in name if c in ".*>/\\" or c.isspace() or not c.isprintable()}):
        raise ValueError(f'"{name}" holds {", ".join(map(repr, bad))}, which a stream name cannot')
    if len(name) > 255:
        raise ValueError(f"{len(name)} characters are over 255, the most the server takes")
    return name


def _pattern(value: object) -> str:
    return Template.parse(_text(value)).wildcard


def _filter(value: object) -> str:
    text = _text(value)
    return text if text.startswith("$") else _pattern(text)  # buckets can be copied from: `$KV.prices.>`


def _list(item: Read) -> Read:
    def read_list(value: object) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"{_shown(value)} is not a list: write [{_shown(value)}]")
        return [item(each) for each in value]

    return read_list


def _choice(*words: str) -> Read:
    def read_choice(value: object) -> str:
        if value not in words:
            known = ", ".join(f'"{word}"' for word in words)
            raise ValueError(f"{_shown(value)} is none of {known}{suggestion(str(value), words)}")
        return str(value)

    return read_choice


def _table(fields: Mapping[str, Read], *, needs: str = "") -> Read:
    def read_table(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError(f"{_shown(value)} is not a table")
        result = _read(value, fields, prefix="")
        if needs and needs not in result:
            raise FieldError("", f"{needs} is missing")
        return result

    return read_table


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{_shown(value)} is not a table")
    for key, text in value.items():
        if key.startswith(FIRST_LETTERS_OF_INTERNAL_METADATA):
            raise FieldError(key, "the server keeps `_nats.` for itself")
        if not isinstance(text, str):
            raise FieldError(key, f"{_shown(text)} is not a text")
    return dict(value)


_TRANSFORM: Mapping[str, Read] = {"src": _filter, "dest": _text}
_SOURCE = _table(
    {
        "name": stream_name,
        "opt_start_seq": _position,
        "opt_start_time": _moment,
        "filter_subject": _filter,
        "subject_transforms": _list(_table(_TRANSFORM, needs="dest")),
        "external": _table({"api": _text, "deliver": _text}, needs="api"),
        "consumer": _table({"name": stream_name, "deliver_subject": _text}, needs="name"),
    },
    needs="name",
)

FIELDS: Mapping[str, Read] = {
    "name": stream_name,
    "description": _text,
    "subjects": _list(_pattern),
    "retention": _choice("limits", "interest", "workqueue"),
    "storage": _choice("file", "memory"),
    "num_replicas": _replicas,
    "max_msgs": _limit,
    "max_bytes": _size,
    "max_age": _window,
    "max_msg_size": _message_size,
    "max_msgs_per_subject": _limit,
    "max_consumers": _limit,
    "discard": _choice("old", "new"),
    "discard_new_per_subject": _flag,
    "duplicate_window": _window,
    "compression": _choice("none", "s2"),
    "allow_direct": _flag,
    "mirror_direct": _flag,
    "allow_atomic": _flag,
    "allow_batched": _flag,
    "allow_msg_ttl": _flag,
    "allow_msg_schedules": _flag,
    "allow_msg_counter": _flag,
    "allow_rollup_hdrs": _flag,
    "deny_delete": _flag,
    "deny_purge": _flag,
    "sealed": _flag,
    "no_ack": _flag,
    "persist_mode": _choice("default", "async"),
    "first_seq": _position,
    "subject_delete_marker_ttl": _marker_lifetime,
    "subject_transform": _table(_TRANSFORM, needs="dest"),
    "republish": _table({"src": _pattern, "dest": _text, "headers_only": _flag}, needs="dest"),
    "placement": _table({"cluster": _text, "tags": _list(_text)}),
    "consumer_limits": _table({"inactive_threshold": _duration, "max_ack_pending": _position}),
    "mirror": _SOURCE,
    "sources": _list(_SOURCE),
    "metadata": _metadata,
}
