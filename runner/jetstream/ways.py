"""The way back of a dead letter: by its function's name, or with its key.

The server decides, not the code at hand, which may be older or newer than what runs. A function without order has a durable for
messages that are sent back to it. A function with order has no such durable, but an open generation that names its key's tokens. If
the two disagree, an ordered function still takes in messages sent by its name, and a function without order those sent by a key.
"""

from __future__ import annotations

from runner.core import identity
from runner.errors import ServerError
from runner.jetstream import codes, consumer
from runner.jetstream.connection import Connection
from runner.jetstream.deadletters import NotRedriven
from runner.jetstream.ownstreams import AGAIN
from runner.jetstream.reshard import GenerationStore


async def key_tokens(connection: Connection, project: str, function: str) -> tuple[int, ...] | None:
    """The indexes of the tokens that make a function's key; None if the function keeps no order, or is not known.

    Raises `NotRedriven` if the function keeps order, but has not said by which tokens.
    """
    if await consumer.info(connection, AGAIN, identity.durable(project, function)) is not None:
        return None
    try:
        current, _ = await GenerationStore(connection, project).read(function)
    except ServerError as error:
        if error.code not in codes.NO_CONSUMER:
            raise
        return None  # there is no bucket
    if current is not None and not current.keys:
        raise NotRedriven(
            f"{function} keeps order, and by which tokens is not known here yet",
            hint=f"start a runner of {project} that has the function {function}",
        )
    return current.keys if current is not None else None
