"""Fences: where they stand in a stream of outputs, which streams can hold them, and what one that stands there means.

Rule 1: a fence is the last message on a subject of its own, one for each shard, in the very stream that the shard's
        outputs go to. Every output names its sequence; once another owner has written it anew, the server refuses.
Rule 2: it shows whose it is by the claim of the shard. Only who holds the claim may write it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from runner.core.address import Address
from runner.core.subject import overlaps

PREFIX = "_jetrunner"
FEWEST = 1_000
"""A stream that keeps fewer messages has no room for fences beside them."""


class Standing(Struct, frozen=True):
    """What stands on a fence's subject."""

    sequence: int = 0
    """Of the last message; 0 when there is none: the first owner, or the stream's limits have taken it."""
    owner: str = ""
    epoch: int = 0


Judgement = Literal["ours", "older", "doubtful"]


def pattern(stream: str) -> str:
    """Name what a stream captures besides its own subjects so that it can hold fences."""
    return f"{PREFIX}.{stream}.>"


def subject(stream: str, project: str, function: str, generation: int | str, shard: int | str) -> str:
    """Name the subject of one shard's fence in a stream."""
    return f"{PREFIX}.{stream}.{project}.{function}.{generation}.{shard}"


def of_shard(stream: str, address: Address) -> str:
    """Name the same of a shard of ours."""
    return subject(stream, address.project, address.function, address.generation, address.number)


def holds(config: Mapping[str, Any]) -> bool:
    """Tell whether a stream, as the server has it, holds fences."""
    name = config.get("name", "")
    return pattern(name) in (config.get("subjects") or ()) and not _transformed(name, config)


def subjects(name: str, config: Mapping[str, Any], *, held: bool = False) -> Sequence[str]:
    """Give the subjects that a stream shall have: with that of its fences where it can hold any, else without.

    It must keep what it takes in, take in more than one message a subject, and store fences unchanged. One that
    `held` fences before keeps their subject while they are stored unchanged.
    """
    added = pattern(name)
    own = tuple(each for each in config.get("subjects") or () if each != added)
    if not own or any(overlaps(each, added) for each in own) or _transformed(name, config):
        return own
    if held:
        return (*own, added)
    if config.get("retention", "limits") != "limits" or 0 < (config.get("max_msgs") or 0) < FEWEST:
        return own
    if any(
        config.get(field) for field in ("discard_new_per_subject", "allow_msg_counter", "sealed", "no_ack")
    ):
        return own
    return (*own, added)


def _transformed(name: str, config: Mapping[str, Any]) -> bool:
    transform = config.get("subject_transform")
    return transform is not None and overlaps(transform.get("src") or ">", subject(name, "*", "*", "*", "*"))


def judge(standing: Standing, owner: str, epoch: int) -> Judgement:
    """Say what an owner in its epoch makes of a fence: its own, one of before it, or a doubt that its claim decides."""
    if standing.sequence and (standing.owner, standing.epoch) == (owner, epoch):
        return "ours"
    return "older" if standing.sequence and standing.epoch < epoch else "doubtful"


def expect(fence: str, sequence: int) -> bytes:
    """Make the header lines by which a stream refuses a message once the fence has moved on."""
    return (
        b"Nats-Expected-Last-Subject-Sequence: %d\r\nNats-Expected-Last-Subject-Sequence-Subject: %b\r\n"
        % (sequence, fence.encode())
    )
