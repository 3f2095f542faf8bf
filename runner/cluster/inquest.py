"""The inquest into an instance whose server reports no responder for it; `core/death.py` says what proves a death."""

from __future__ import annotations

import asyncio
import time
from math import inf

from runner.core import identity
from runner.core.death import Inquest
from runner.errors import NoStream, ServerError
from runner.jetstream.connection import Connection

PROBE_SECONDS = 0.5


async def probe(connection: Connection, project: str, instance: str) -> bool | None:
    """Whether an instance answers: False if there is no responder, None if no answer came."""
    try:
        await connection.request_whole(identity.alive_subject(project, instance), b"", PROBE_SECONDS)
    except NoStream:
        return False
    except ServerError:
        return None
    return True


async def is_dead(
    connection: Connection,
    project: str,
    instance: str,
    *,
    near: bool,
    witness: str,
    bound: float,
) -> bool:
    """Probe an instance twice, its bound apart. If it is not `near` (at our own server), probe its `witness` before and after."""
    epoch = connection.wire.epoch
    seen = inf
    if not near:
        seen = time.monotonic()
        if not witness or not await probe(connection, project, witness):
            return False  # the way to its server may be gone: its lease decides
    if await probe(connection, project, instance) is not False:
        return False
    absent = time.monotonic()
    while (waited := (again := time.monotonic()) - absent) < bound:  # uvloop wakes up to a millisecond early
        await asyncio.sleep(bound - waited)
    if await probe(connection, project, instance) is not False:
        return False
    seen_again = inf
    if not near:
        if not await probe(connection, project, witness):
            return False
        seen_again = time.monotonic()
    found = Inquest(absent, again, near, seen, seen_again)
    return epoch == connection.wire.epoch and found.proves(bound)
