"""Streams with interest retention: they keep a message for the durables that stand when it is stored, and for no others.

Rule 1: the durables of a generation of shards stand before the stream stores anything under its subjects.
Rule 2: they are made as the instance that owns the shard would make them, so that it finds nothing to change.
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
    """Whether a stream drops what no durable waits for."""
    return config.get("retention") == INTEREST


async def stand(connection: Connection, stream: str, shards: Sequence[ConsumerConfig]) -> None:
    """Make the durables of a function for all shards of a generation; those that are there stay as they are.

    A change that is refused after this leaves them behind: nothing comes for them, and the next one finds them.
    """
    await map_concurrently(partial(consumer.ensure, connection, stream), shards)
