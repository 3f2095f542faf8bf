"""Fences: their subjects in an output stream, which streams can hold them, and whose a stored fence is.

Rule 1: a fence is the last message on a subject of its own, one for each shard, in the stream that the shard's outputs go to. Every
        output names the sequence of the fence. Once another owner has written the fence again, the server refuses outputs of the
        earlier owner.
Rule 2: a fence names the owner and the epoch of the shard's claim. Only the instance that holds the claim may write it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from runner.core.address import Address
from runner.core.subject import overlaps

PREFIX = "_jetrunner"
NOWHERE = 1 << 62
"""Named as the sequence of a fence in a stream that is not there: no stream has it, so each refuses an output that names it."""
FEWEST = 1_000
"""A stream with a lower `max_msgs` has no room for fences beside its messages."""


class StandingFence(Struct, frozen=True):
    """The fence as it is stored on its subject."""

    sequence: int = 0
    """The fence's sequence; 0: there is none, because the owner is the first, or because the stream's limits have removed it."""
    owner: str = ""
    epoch: int = 0


Judgement = Literal["ours", "older", "doubtful"]


def pattern(stream: str) -> str:
    """Name the pattern that a stream captures besides its own subjects so that it can hold fences."""
    return f"{PREFIX}.{stream}.>"


def subject(stream: str, project: str, function: str, generation: int | str, shard: int | str) -> str:
    """Name the subject of one shard's fence in a stream."""
    return f"{PREFIX}.{stream}.{project}.{function}.{generation}.{shard}"


def of_shard(stream: str, address: Address) -> str:
    """Name the subject of the fence of the shard with this address."""
    return subject(stream, address.project, address.function, address.generation, address.number)


def holds(config: Mapping[str, Any]) -> bool:
    """Tell whether a stream with this configuration on the server can hold fences now."""
    name = config.get("name", "")
    return pattern(name) in (config.get("subjects") or ()) and not _transformed(name, config)


def subjects(name: str, config: Mapping[str, Any], *, held: bool = False) -> Sequence[str]:
    """Give the subjects that a stream shall have: its own, and those of its fences if it can hold fences.

    To hold fences it must keep its messages, accept more than one message a subject, and store fences unchanged. A stream
    that `held` fences before keeps their subjects as long as it stores them unchanged.
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


def judge(standing: StandingFence, owner: str, epoch: int) -> Judgement:
    """Judge a fence for an owner in its epoch: it is "ours", "older", or "doubtful"; then the claim has to be read."""
    if standing.sequence and (standing.owner, standing.epoch) == (owner, epoch):
        return "ours"
    return "older" if standing.sequence and standing.epoch < epoch else "doubtful"


def expect(fence: str, sequence: int) -> bytes:
    """Make the header lines by which a stream refuses a message once another owner has written the fence."""
    return (
        b"Nats-Expected-Last-Subject-Sequence: %d\r\nNats-Expected-Last-Subject-Sequence-Subject: %b\r\n"
        % (sequence, fence.encode())
    )
