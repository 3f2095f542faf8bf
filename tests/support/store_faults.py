"""Faults of what an instance and its server know: a half-open connection, a purged bucket, an older store."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import nats.errors

from tests.support.jetstream import ApiError
from tests.support.lapse import Lapse
from tests.support.ledger import Ledger

OLDER = "server back with an older store"
BUCKET = "KV_jetrunner"
APART_SECONDS = 2.0
"""Between a purge of the bucket and a kill of the server: which acks a killed server may forget stands in the bucket."""
FOLLOWED_SECONDS = 4.5
"""An owner that is killed together with the server is followed within 3.5 s; until then its last acks stand in the bucket alone."""
TOLD_SECONDS = 10.0
"""So long after a start of the server, an instance that cannot reach it may be the only one that knows of such an ack."""


async def half_open(ledger: Ledger) -> bool:
    """Close the server's side of an instance's connection; the instance is told nothing for a while."""
    chosen = ledger.pick(proxied=True)
    if chosen is None or chosen.proxy is None:
        return False
    seconds = ledger.luck.uniform(0.3, 5.0)
    ledger.note(f"  half open {chosen.process.pid} for {seconds:.2f} s")
    chosen.proxy.half_open()
    await asyncio.sleep(seconds)
    await chosen.proxy.mend()
    chosen.troubled = False
    return True


async def purge_bucket(ledger: Ledger) -> bool:
    """Purge the bucket of leases, claims and records, or delete it."""
    what = ledger.luck.choice(["PURGE", "PURGE", "DELETE"])
    async with ledger.server_down:
        await _acks_told(ledger)
        ledger.mark("P bucket")
        ledger.note(f"  {what} {BUCKET}")
        try:
            await ledger.js.api(f"STREAM.{what}.{BUCKET}")
        except (ApiError, nats.errors.Error):
            return False
        await asyncio.sleep(APART_SECONDS)
    return True


async def _acks_told(ledger: Ledger) -> None:
    """Return once every instance has had time to acknowledge again what a killed server may have forgotten."""
    quiet = time.monotonic()
    while time.monotonic() - quiet < FOLLOWED_SECONDS:
        recent = ledger.server is not None and time.monotonic() - ledger.server.started < TOLD_SECONDS
        if recent and any(each.troubled for each in ledger.instances):
            quiet = time.monotonic()
        await asyncio.sleep(0.05)


async def restore(ledger: Ledger) -> bool:
    """Kill the server and start it with the store that it had some time before: all of it, the stream or the bucket.

    Not the bucket alone where it has learned of another owner meanwhile: the one before would own the shard again, while acks
    of the new one may be lost with the server (`docs/guarantees.md` names that).
    """
    server = ledger.server
    if server is None:
        return False
    what = ledger.luck.choice(["", "", "", "LEDGER", BUCKET])
    copy = server.directory / "copy"
    async with ledger.server_down:
        owners = await _claims(ledger)
        copied = time.monotonic()
        server.freeze()
        try:
            await asyncio.to_thread(shutil.copytree, server.store, copy)
        finally:
            server.thaw()
        await asyncio.sleep(ledger.luck.uniform(0.2, 3.0))
        if what == BUCKET and await _claims(ledger) != owners:
            what = ""
        server.kill()
        ledger.lapses.append(Lapse(copied, time.monotonic()))
        ledger.note(f"  back with {what or 'everything'} as it was {time.monotonic() - copied:.2f} s before")
        await asyncio.to_thread(_put_back, server.store, copy, what)
        ledger.mark(
            f"R {what or 'everything'}"
        )  # what was started a moment after the kill was started before this
        await asyncio.to_thread(server.start)
    return True


async def _claims(ledger: Ledger) -> dict[str, str]:
    """The newest claim of each shard, as it stands in the bucket."""
    return {
        each.subject: each.json().get("owner", "")
        for each in await ledger.js.messages(BUCKET, "$KV.jetrunner.claim.>")
    }


def _put_back(store: Path, copy: Path, stream: str) -> None:
    part = Path("jetstream/$G/streams") / stream if stream else Path()
    shutil.rmtree(store / part)
    if (copy / part).exists():
        shutil.move(copy / part, store / part)
    shutil.rmtree(copy, ignore_errors=True)
