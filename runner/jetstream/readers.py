"""Finds the functions that read a message: by the durables on its stream, of any project, and by what code and instances say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from runner.core import sharding
from runner.core.storyfacts import DurableFacts
from runner.core.streams.plan import ALSO
from runner.core.subject import matches
from runner.jetstream.consumer import filters_of
from runner.jetstream.inventory import subjects_of
from runner.jetstream.messages import nanoseconds

_SHARD = re.compile(r"(?P<name>.+)-(?P<generation>\d+)-(?P<number>\d+)")
_BESIDE = re.compile(rf"(?P<name>.+)-{ALSO}-[0-9a-f]+")
FUNCTION, PROJECT = "jetrunner.function", "jetrunner.project"
"""Keys in a durable's metadata: its function, and the function's project if the durable's name does not tell it."""


class KnownFunction(Struct, frozen=True, kw_only=True):
    """What the code at hand, or an instance, says of a function of this project."""

    function: str
    label: str = ""
    """The function's name in the code."""
    subject: str
    """The subject that it reads, as published."""
    stream: str = ""
    durable: str = ""
    """The durable of a function without order, if it is not the usual one."""
    ordered: bool = False
    key_positions: tuple[int, ...] = ()
    joins: bool = False
    attempts: int = 0
    """Most attempts at a message; 0: not known."""
    output: str = ""
    """The subject of its result, with its own tokens filled in: `{0}` is the first of them."""
    publishes: bool = True
    """Whether it may publish elsewhere, too, as far as is known."""


class ReadingFunction(Struct, frozen=True, kw_only=True):
    """One function that reads the message."""

    project: str
    function: str
    ordered: bool
    durable: Mapping[str, Any] | None = None
    """The server's info on the durable that delivers the message; None if there is none."""
    known: KnownFunction | None = None


def readers(
    project: str,
    stored: str | None,
    consumers: Sequence[Mapping[str, Any]],
    known: Iterable[KnownFunction],
) -> list[ReadingFunction]:
    """The functions that read a message stored under this subject, by project and name; with None all that read the stream.

    `known` are functions of `project` that read the stream, or may read it.
    """
    ours = {each.function: each for each in known}
    named = {each.durable: each.function for each in ours.values() if each.durable}
    found: dict[tuple[str, str], ReadingFunction] = {}
    for info in sorted(consumers, key=lambda each: _BESIDE.fullmatch(each["name"]) is not None):
        metadata = info["config"].get("metadata") or {}
        function = metadata.get(FUNCTION) or ""
        if info["name"] in named:
            owner, function, place = project, named[info["name"]], None
        elif (
            function.isidentifier() and (told := metadata.get(PROJECT)) and not _SHARD.fullmatch(info["name"])
        ):
            owner, place = told, None
        elif not function.isidentifier() or (read := _owner(info["name"], function)) is None:
            continue
        else:
            owner, place = read
        name = owner, function
        if not _reads(info, stored, place):
            continue
        if place is None or stored is None:
            durable = info if place is None else None
        else:
            durable = info if sharding.place(stored) == place else None
        before = found.get(name)
        if before is None or before.durable is None:
            found[name] = ReadingFunction(
                project=owner,
                function=function,
                ordered=place is not None,
                durable=durable,
                known=ours.get(function) if owner == project else None,
            )
    subject = sharding.original(stored) if stored is not None else None
    for each in ours.values():
        current = found.get((project, each.function))
        if current is not None and current.ordered != each.ordered:
            del found[project, each.function]  # from when it did, or did not, keep order
        if subject is not None and matches(each.subject, subject) and (project, each.function) not in found:
            found[project, each.function] = ReadingFunction(
                project=project, function=each.function, ordered=each.ordered, known=each
            )
    return [found[name] for name in sorted(found)]


def durable(info: Mapping[str, Any]) -> DurableFacts:
    """What the server says of a durable, as the message's story needs it."""
    config = info["config"]
    start = (
        int(config.get("opt_start_seq") or 0) if config.get("deliver_policy") == "by_start_sequence" else 0
    )
    return DurableFacts(
        name=str(info["name"]),
        floor=int(info["ack_floor"]["stream_seq"]),
        delivered=int(info["delivered"]["stream_seq"]),
        pending=int(info["num_pending"]),
        unsettled=int(info["num_ack_pending"]),
        start=start,
        new=config.get("deliver_policy") == "new",
        created_ns=nanoseconds(str(info.get("created") or "")),
        paused=str(config.get("pause_until") or "") if info.get("paused") else "",
    )


def _owner(name: str, function: str) -> tuple[str, tuple[int, int] | None] | None:
    """The project of a durable, and its generation and shard; None if its name is not like ours."""
    place = None
    if (shard := _SHARD.fullmatch(name)) and shard["name"].endswith(f"-{function}"):
        name, place = shard["name"], (int(shard["generation"]), int(shard["number"]))
    elif (beside := _BESIDE.fullmatch(name)) is not None:
        name = beside["name"]
    owner = name.removesuffix(f"-{function}")
    return (owner, place) if owner and owner != name else None


def _reads(info: Mapping[str, Any], stored: str | None, place: tuple[int, int] | None) -> bool:
    """Whether a durable, or that of another shard of its function, reads messages under this subject."""
    if stored is None:
        return True
    if place is None:
        filters = filters_of(info["config"])
        return not filters or any(matches(each, stored) for each in filters)
    read = subjects_of(info["config"])
    return not read or any(matches(each, sharding.original(stored)) for each in read)
