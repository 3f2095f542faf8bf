"""How long the oldest message that a durable has not delivered has waited."""

from __future__ import annotations

from typing import Any

from runner.errors import JetrunnerError
from runner.jetstream import consumer, messages
from runner.jetstream.connection import Connection


async def waited(connection: Connection, stream: str, info: dict[str, Any]) -> float:
    """The wait in seconds, by the server's clock; 0.0 if no message waits, or the server does not tell. `info` is the durable's.

    This asks once for each subject that the durable reads, and not at all while no message waits.
    """
    if not info["num_pending"]:
        return 0.0
    following = info["delivered"]["stream_seq"] + 1
    stored = []
    try:
        for subject in consumer.filters_of(info["config"]) or (">",):
            ask = {"seq": following, "next_by_subj": subject}
            found = await messages.leader_message(connection, stream, ask)
            if found is not None:
                stored.append(found.stored_ns)
    except JetrunnerError:
        return 0.0
    return max(0.0, connection.clock.now() - min(stored) / 1e9) if stored else 0.0
