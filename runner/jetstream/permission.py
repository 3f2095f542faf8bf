"""One right of a NATS user: a subject that it may publish to, or subscribe to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.jetstream.kv import PREFIX

Side: TypeAlias = Literal["publish", "subscribe"]


class Permission(Struct, frozen=True):
    """One subject that a user may publish to, or subscribe to, and what for."""

    side: Side
    subject: str
    why: str


def once(found: Iterable[Permission]) -> list[Permission]:
    """Each subject once, with its first reason; subjects to publish to come first."""
    kept: dict[tuple[Side, str], Permission] = {}
    for each in found:
        kept.setdefault((each.side, each.subject), each)
    return sorted(kept.values(), key=lambda each: each.side)


def api(suffix: str, why: str) -> Permission:
    """The right to call the API of JetStream."""
    return publish(f"$JS.API.{suffix}", why)


def bucket(kind: str, project: str, why: str) -> Permission:
    """The right to write keys of one kind into the bucket."""
    return publish(f"{PREFIX}{kind}.{project}.>", why)


def publish(subject: str, why: str) -> Permission:
    """The right to publish to a subject."""
    return Permission("publish", subject, why)


def subscribe(subject: str, why: str) -> Permission:
    """The right to subscribe to a subject."""
    return Permission("subscribe", subject, why)
