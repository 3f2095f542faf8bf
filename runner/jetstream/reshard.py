"""The generations of a stream's shards, as the server knows them, and the change to the next generation.

Rule 1: all facts are read from the leader: a lagging replica knows less, and would make a shard look drained.
Rule 2: a shard is drained if its durable has no pending messages, and has delivered the last message stored for it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from runner.core import generation as generations
from runner.core import identity, sharding
from runner.core.checked import Unfit
from runner.core.generation import MOST_SHARDS, OpenGeneration, stored_subject
from runner.core.subject import overlaps
from runner.errors import JetrunnerError
from runner.jetstream import consumer
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import consumers_on
from runner.jetstream.kv import KV
from runner.jetstream.messages import leader_message

CURRENT_SECONDS = 10.0
"""How long a resize waits for a lagging replica."""
SILENT_SECONDS = 2.0
"""A replica that its leader has not heard of for so long counts as missing: normally it is heard of each second."""
MOST_BEHIND = 64
"""Most messages that may be on their way to a replica that counts as current."""
_NAME = re.compile(r"(.+)-(\d+)-(\d+)")


class Lag(Struct, frozen=True):
    """What one shard of one function has still to do."""

    generation: int
    number: int
    pending: int
    """Messages that were not delivered yet."""
    unsettled: int
    """Messages that were delivered and are not settled."""
    delivered: int
    """The last stream sequence that was delivered or passed over."""


class GenerationStore:
    """The generations on which the functions of a project work, in the bucket."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._kv = KV(connection)
        self.prefix = f"generation.{project}."

    async def read(self, function: str) -> tuple[OpenGeneration | None, int]:
        """A function's generation, and the revision for a change."""
        value, revision = await self._kv.leader(self.prefix + function)
        return parse(value) if revision else None, revision

    async def remove(self, function: str) -> None:
        """Remove a function's generation."""
        await self._kv.remove(self.prefix + function)

    async def swap(self, function: str, current: OpenGeneration, revision: int) -> bool:
        """Change a function's generation; False if somebody else has changed it."""
        body = msgspec.json.encode(current)
        return await self._kv.swap(self.prefix + function, body, revision) is not None


def parse(value: bytes) -> OpenGeneration | None:
    """Read a generation; None if the value is none."""
    try:
        return generations.read(value)
    except Unfit:
        return None


async def last(connection: Connection, stream: str, subject: str) -> int:
    """The last sequence stored under a subject, which may have wildcards; 0 if there is none."""
    message = await leader_message(connection, stream, {"last_by_subj": subject})
    return message.sequence if message else 0


async def stored(connection: Connection, stream: str, pattern: str, older_than: int) -> dict[int, int]:
    """The last sequence of a pattern's messages, for each older generation that has any."""
    found = {}
    for generation in range(older_than):
        if not generation and not await _tells_apart(connection, stream, pattern):
            continue
        if sequence := await last(connection, stream, stored_subject(pattern, generation)):
            found[generation] = sequence
    return found


async def _tells_apart(connection: Connection, stream: str, pattern: str) -> bool:
    """Whether a pattern matches the messages of generation 0 and no others; False if there are none at all."""
    if not overlaps(pattern, f"shard.*.*.{pattern}"):
        return True
    first = await leader_message(connection, stream, {"seq": 1, "next_by_subj": ">"})
    if first is None or sharding.place(first.subject) != (0, 0):
        return False
    raise JetrunnerError(
        f'{stream} holds messages from before it was sharded, and "{pattern}" does not tell them from later ones',
        hint="name the first token of the function's subject",
    )


async def shards_with_messages(connection: Connection, stream: str, pattern: str, generation: int) -> int:
    """The number of the highest shard with messages in a generation, plus one: its count, as far as it matters."""
    lasts = await _lasts(connection, stream, pattern, generation, range(MOST_SHARDS))
    return max((number + 1 for number, sequence in enumerate(lasts) if sequence), default=1)


async def lags(
    connection: Connection, stream: str, durable: str = "", *, patience: float = 0.0
) -> dict[str, list[Lag]]:
    """What the shards on a stream have still to do, by the common name of their durables (`<project>-<function>`).

    Raises `Incomplete` if the server cannot tell of all of them: a generation would seem drained, or never begun.
    """
    found: dict[str, list[Lag]] = {}
    for info in await consumers_on(connection, stream, patience):
        match = _NAME.fullmatch(info["name"])
        function = (info["config"].get("metadata") or {}).get("jetrunner.function")
        if (
            match is None
            or not function
            or not match[1].endswith(f"-{function}")
            or durable not in ("", match[1])
        ):
            continue
        found.setdefault(match[1], []).append(
            Lag(
                int(match[2]),
                int(match[3]),
                int(info["num_pending"]),
                int(info["num_ack_pending"]),
                int(info["delivered"]["stream_seq"]),
            )
        )
    return found


async def drained(connection: Connection, current: OpenGeneration, known: Sequence[Lag]) -> int | None:
    """The last sequence of an open generation if it is drained; None while messages are left."""
    ours = {each.number: each for each in known if each.generation == current.generation}
    if any(each.pending or each.unsettled for each in ours.values()):
        return None
    lasts = await _lasts(
        connection, current.stream, current.subject, current.generation, range(current.count)
    )
    for number, sequence in enumerate(lasts):
        if sequence >= max(1, current.start) and (number not in ours or ours[number].delivered < sequence):
            return None
    return max(lasts, default=0)


async def remove_older(connection: Connection, durable: str, current: OpenGeneration) -> None:
    """Remove the durables of drained generations; a function that reads such a generation again continues where it was left.

    The server would list them for ever. They cost it memory, and on R3 a Raft group each.
    """
    for each in (await lags(connection, current.stream, durable)).get(durable, ()):
        if each.generation < current.generation:
            project, _, function = durable.rpartition("-")
            name = identity.shard_durable(project, function, each.generation, each.number)
            await consumer.remove(connection, current.stream, name)


async def resize(
    connection: Connection,
    stream: str,
    count: int,
    by: tuple[int, ...] = (),
    prepare: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """Give a stream other shards from now on; returns its configuration. Raises ValueError if that is not possible.

    `by` are the indexes of the tokens to shard by; without them they stay the same. `prepare` is awaited with the coming
    configuration of the stream. Each replica puts a message under the shards that it knows when it applies the message (measured on
    2.15). A lagging replica would put messages from before the change under the new shards, for good. So all replicas have to be
    current.
    """
    until = time.monotonic() + CURRENT_SECONDS
    while True:
        info = await connection.api(f"STREAM.INFO.{stream}")
        behind = _behind(info)
        if not behind:
            break
        if time.monotonic() > until:
            raise ValueError(
                f"{', '.join(behind)} is behind, and would store messages of before under the new shards; "
                "try again when its servers are all there"
            )
        await asyncio.sleep(CURRENT_SECONDS / 100)
    after = generations.resized(info["config"], count, by)
    if prepare is not None:
        await prepare(after)
    config: dict[str, Any] = (await connection.api(f"STREAM.UPDATE.{stream}", after))["config"]
    return config


def _behind(info: Mapping[str, Any]) -> list[str]:
    """The replicas of a stream that are missing, or have not applied all that its leader has."""
    replicas = (info.get("cluster") or {}).get("replicas") or []
    return [
        str(each.get("name", "a replica"))
        for each in replicas
        if each.get("offline")
        or not each.get("current")
        or each.get("lag", 0) > MOST_BEHIND
        or each.get("active", 0) > SILENT_SECONDS * 1e9
    ]


async def _lasts(
    connection: Connection, stream: str, pattern: str, generation: int, numbers: range
) -> list[int]:
    filters = [sharding.shard_filter(pattern, generation, number) for number in numbers]
    return await map_concurrently(partial(last, connection, stream), filters)
