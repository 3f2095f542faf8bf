"""Fields of one stream configuration that the server refuses together (nats-server 2.15, checkStreamCfg)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Config: TypeAlias = Mapping[str, Any]


def conflict(config: Config) -> tuple[tuple[str, ...], str] | None:
    """Find the first fields that clash, the one at fault first, and the reason; None: no fields clash."""
    for fields, clashes, sentence in _CONFLICTS:
        if clashes(config):
            return fields, sentence
    return None


def _on(config: Config, *fields: str) -> bool:
    """Whether all of the fields are set to something."""
    return all(config.get(field) not in (None, False, 0, -1, "", "default", [], {}) for field in fields)


def _window_over_age(config: Config) -> bool:
    return _on(config, "max_age", "duplicate_window") and config["duplicate_window"] > config["max_age"]


_MIRROR = "a mirror only copies: it has no {} of its own"
_ROLLUP = "it needs roll-ups, which purge, and deny_purge forbids that"

_CONFLICTS: tuple[tuple[tuple[str, ...], Callable[[Config], bool], str], ...] = (
    (("duplicate_window", "max_age"), _window_over_age, "duplicate_window cannot be longer than max_age"),
    *(
        ((field, "mirror"), lambda c, field=field: _on(c, "mirror", field), _MIRROR.format(noun))
        for field, noun in (
            ("subjects", "subjects"),
            ("sources", "sources"),
            ("first_seq", "first sequence"),
            ("allow_atomic", "batches"),
            ("allow_batched", "batches"),
            ("allow_msg_counter", "counters"),
            ("allow_msg_schedules", "schedules"),
            ("subject_delete_marker_ttl", "delete markers"),
        )
    ),
    (
        ("discard_new_per_subject", "discard"),
        lambda c: _on(c, "discard_new_per_subject") and c.get("discard") != "new",
        'discard_new_per_subject needs discard = "new"',
    ),
    (
        ("discard_new_per_subject", "max_msgs_per_subject"),
        lambda c: _on(c, "discard_new_per_subject") and not _on(c, "max_msgs_per_subject"),
        "discard_new_per_subject needs max_msgs_per_subject",
    ),
    (("allow_rollup_hdrs", "deny_purge"), lambda c: _on(c, "allow_rollup_hdrs", "deny_purge"), _ROLLUP),
    (("allow_msg_schedules", "deny_purge"), lambda c: _on(c, "allow_msg_schedules", "deny_purge"), _ROLLUP),
    (
        ("subject_delete_marker_ttl", "deny_purge"),
        lambda c: _on(c, "subject_delete_marker_ttl", "deny_purge"),
        _ROLLUP,
    ),
    (
        ("allow_msg_schedules", "discard"),
        lambda c: _on(c, "allow_msg_schedules") and c.get("discard") == "new",
        'schedules cannot be kept with discard = "new"',
    ),
    (
        ("allow_msg_schedules", "sources"),
        lambda c: _on(c, "allow_msg_schedules", "sources"),
        "a stream with sources keeps no schedules",
    ),
    (
        ("allow_msg_counter", "discard"),
        lambda c: _on(c, "allow_msg_counter") and c.get("discard") == "new",
        'counters cannot be kept with discard = "new"',
    ),
    (
        ("allow_msg_counter", "allow_msg_ttl"),
        lambda c: _on(c, "allow_msg_counter", "allow_msg_ttl"),
        "counters cannot have lifetimes",
    ),
    (
        ("allow_msg_counter", "allow_msg_schedules"),
        lambda c: _on(c, "allow_msg_counter", "allow_msg_schedules"),
        "counters cannot be scheduled",
    ),
    (
        ("allow_msg_counter", "retention"),
        lambda c: _on(c, "allow_msg_counter") and c.get("retention", "limits") != "limits",
        'counters need retention = "limits"',
    ),
    (
        ("persist_mode", "storage"),
        lambda c: _on(c, "persist_mode") and c.get("storage") == "memory",
        'persist_mode = "async" is for file storage',
    ),
    (
        ("persist_mode", "num_replicas"),
        lambda c: _on(c, "persist_mode") and c.get("num_replicas", 1) > 1,
        'persist_mode = "async" is for one replica',
    ),
    (
        ("allow_atomic", "persist_mode"),
        lambda c: _on(c, "allow_atomic", "persist_mode"),
        'allow_atomic cannot be had with persist_mode = "async"',
    ),
)
