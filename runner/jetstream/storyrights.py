"""Additional permissions: for `runner message show`, and for what an instance keeps for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.core import identity
from runner.jetstream.ownstreams import ERRORS, GATHER, PARKED
from runner.jetstream.permission import Permission, api, publish


def rights(streams: Iterable[str], *, parks: bool, joins: bool) -> Iterator[Permission]:
    """The permissions with these streams; `parks` and `joins`: functions park keys, and join split events."""
    for name in streams:
        yield api(f"STREAM.MSG.GET.{name}", "message show; what waits in each shard")
        yield api(f"DIRECT.GET.{name}", "message show: outputs, and messages by key, header or time")
    yield api(f"STREAM.MSG.GET.{ERRORS}", "message show: what an attempt has failed with")
    if parks:
        yield api(f"STREAM.MSG.GET.{PARKED}", "message show: whether a message is parked")
    if joins:
        yield api(f"STREAM.MSG.GET.{GATHER}", "message show: how many parts of an event are here")


def keeping(project: str) -> Iterator[Permission]:
    """The additional permissions of `runner run`."""
    for ask in ("CREATE", "INFO"):
        yield api(f"STREAM.{ask}.{ERRORS}", "our stream of errors is made where it is missing")
    yield publish(
        identity.error_subject(project, "*", "*", "*"), "what attempts to be retried have failed with"
    )
