"""Dangers: what a change to an existing stream would destroy, or why the server would refuse it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from runner.core import quantity, sharding
from runner.core.subject import covers, overlaps


class StandingConsumer(Struct, frozen=True):
    """A consumer of the stream; without filters it reads all messages."""

    name: str
    filters: tuple[str, ...] = ()
    """The subjects that it reads, as published."""
    ours: bool = False
    """Whether it is a durable of this project's functions."""
    waiting: int = 0
    """How many pull requests wait for messages now."""


class StreamHoldings(Struct, frozen=True):
    """The contents and consumers of a stream at this moment, as far as a change could harm them."""

    messages: int = 0
    bytes: int = 0
    oldest: float = 0.0
    """The age of the oldest message, in seconds."""
    most_per_subject: int = 0
    uncaptured: dict[str, int] = {}
    """The number of messages by subject, for subjects that no declared subject would capture any more."""
    readers: tuple[StandingConsumer, ...] = ()


def danger(field: str, real: Any, declared: Any, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    """Say why a field of an existing stream must not change; empty when it may. `after` is the whole new configuration."""
    if field in _CONSTANT:
        return _CONSTANT[field]
    if field in _ONE_WAY and real:
        return "cannot be switched off again once it is on"
    if field in _JUDGED:
        return _JUDGED[field](real, declared, after, holdings)
    return ""


def _unlimited(value: Any) -> bool:
    return not value or value < 0


def _lowered(real: Any, declared: Any) -> bool:
    return not _unlimited(declared) and (_unlimited(real) or declared < real)


def _loss(lost: str, after: Mapping[str, Any]) -> str:
    return f"{lost} and would {'fill the stream' if after.get('discard') == 'new' else 'be deleted'} at once"


def _max_msgs(real: Any, declared: int, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    over = holdings.messages - declared
    return (
        _loss(f"{over:,} of {holdings.messages:,} messages are over it", after) if over > 0 < declared else ""
    )


def _max_bytes(real: Any, declared: int, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    over = holdings.bytes - declared
    size = quantity.format_size
    return _loss(f"{size(over)} of {size(holdings.bytes)} are over it", after) if over > 0 < declared else ""


def _max_age(real: Any, declared: int, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    if not holdings.messages or _unlimited(declared) or holdings.oldest * 1e9 <= declared:
        return ""
    return f"the oldest message is {quantity.format_duration(round(holdings.oldest, 3))} old: it would be deleted at once"


def _max_msgs_per_subject(
    real: Any, declared: int, after: Mapping[str, Any], holdings: StreamHoldings
) -> str:
    if _unlimited(declared) or holdings.most_per_subject <= declared:
        return ""
    return _loss(
        f"one subject holds {holdings.most_per_subject:,} messages: the older ones are over it", after
    )


def _max_msg_size(real: Any, declared: int, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    if not _lowered(real, declared) or not holdings.messages:
        return ""
    return (
        f"{quantity.counted(holdings.messages, 'message')} came in under the larger limit: "
        "publishers of such would begin to fail"
    )


def _max_consumers(real: Any, declared: int, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    standing = len(holdings.readers)
    return f"it has {standing:,} consumers already" if 0 < declared < standing else ""


def _num_replicas(real: Any, declared: int, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    return "with fewer than 3 replicas one lost server loses messages" if declared < min(real or 1, 3) else ""


def _subjects(real: Any, declared: list[str], after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    if holdings.uncaptured:
        subject, count = next(iter(holdings.uncaptured.items()))
        more = len(holdings.uncaptured) - 1
        others = f" (and {quantity.counted(more, 'more subject')})" if more else ""
        return (
            f"{quantity.counted(count, 'message')} on {subject}{others} would belong to no declared subject"
        )
    gone = [was for was in real or () if not any(covers(subject, was) for subject in declared)]
    for reader in holdings.readers:
        for text in reader.filters or (">",):
            lost = [was for was in gone if overlaps(was, text)]
            if lost and not any(covers(subject, text) for subject in declared):
                return f"consumer {reader.name} reads {', '.join(lost)}"
    return ""


def _subject_transform(real: Any, declared: Any, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    if not holdings.messages and not holdings.readers:
        return ""
    if (now := sharding.read(after)) is not None and now == sharding.read(
        {**after, "subject_transform": real}
    ):
        return ""  # the same shards for more subjects
    return (
        "what is stored keeps its old subjects: consumers filter on one of the two and would miss the other"
    )


def _sources(real: Any, declared: Any, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    for was in real or () if holdings.messages else ():
        same = [source for source in declared if source["name"] == was["name"]]
        if same and all(_taken(source) != _taken(was) for source in same):
            return (
                f"the server would copy {was['name']} again from its beginning, beside what is here already"
            )
    return ""


def _taken(source: Mapping[str, Any]) -> object:
    """The subjects that a source copies, and the subjects under which they are stored."""
    transforms = [
        (each.get("src"), each.get("dest") or "") for each in source.get("subject_transforms") or ()
    ]
    return source.get("filter_subject") or "", transforms


def _sealed(real: Any, declared: bool, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    return (
        "sealing ends the stream for good, so it is not done from a file: nats stream seal"
        if declared
        else ""
    )


def _no_ack(real: Any, declared: bool, after: Mapping[str, Any], holdings: StreamHoldings) -> str:
    return "publishers would get no confirmation any more" if declared else ""


_CONSTANT: Mapping[str, str] = {
    "storage": "the server cannot change the storage of a stream",
    "retention": "retention decides which messages are deleted; the server cannot change it to or from workqueue",
    "persist_mode": "the server cannot change it on an existing stream",
    "allow_msg_counter": "the server cannot change it on an existing stream",
    "first_seq": "it counts only when the stream is created",
    "mirror": "the server cannot change what a stream mirrors",
}
_ONE_WAY = frozenset({"allow_msg_ttl", "allow_msg_schedules", "deny_delete", "deny_purge", "sealed"})
_JUDGED: Mapping[str, Callable[[Any, Any, Mapping[str, Any], StreamHoldings], str]] = {
    "max_msgs": _max_msgs,
    "max_bytes": _max_bytes,
    "max_age": _max_age,
    "max_msgs_per_subject": _max_msgs_per_subject,
    "max_msg_size": _max_msg_size,
    "max_consumers": _max_consumers,
    "num_replicas": _num_replicas,
    "subjects": _subjects,
    "subject_transform": _subject_transform,
    "sources": _sources,
    "sealed": _sealed,
    "no_ack": _no_ack,
}
