"""Streams with interest retention: they keep a message only for the durables that exist when it is stored.

Rule 1: the durables of a generation of shards are made before the stream stores any message under its subjects.
Rule 2: they get the settings that the owner of the shard would give them, so that the owner finds nothing to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from runner.jetstream import consumer
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.consumer import ConsumerConfig

INTEREST = "interest"


def forgets(config: Mapping[str, Any]) -> bool:
    """Whether a stream drops messages that no durable waits for."""
    return config.get("retention") == INTEREST


async def stand(connection: Connection, stream: str, shards: Sequence[ConsumerConfig]) -> None:
    """Make a function's durables for all shards of a generation; existing ones stay as they are.

    If the following change is refused, they remain: no messages come for them, and the next change finds them.
    """
    await map_concurrently(partial(consumer.ensure, connection, stream), shards)
