"""Which way a dead letter goes back: by its function's name, or with its key.

The server tells it, not the code at hand, which may be older or newer than what runs: a function that keeps no order has
a durable on what is sent back to it, and one that keeps order has none, but an open generation that names its key's tokens.
Where the two disagree after all, an ordered function takes in what was sent by its name, and another what was sent by a key.
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
    """The indexes of the tokens that make a function's key; None for one that keeps no order, or is not known.

    Raises `NotRedriven` for one that keeps order and has not said by which tokens.
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
