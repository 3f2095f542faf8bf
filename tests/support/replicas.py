"""Whether the replicas of a stream hold the same: each server is asked for its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import nats
from nats.aio.msg import Msg


async def differing(urls: Sequence[str], stream: str) -> str:
    """Say which sequences stand under another subject at one server than at another; empty where all hold the same."""
    found = [await _subjects(url, stream) for url in urls]
    sequences = sorted({sequence for each in found for sequence in each})
    lines = []
    for sequence in sequences:
        subjects = [each.get(sequence, "nothing") for each in found]
        if len(set(subjects)) > 1:
            lines.append(f"  {sequence}: {' | '.join(subjects)}")
    return f"{len(lines)} messages differ between the replicas:\n" + "\n".join(lines) if lines else ""


async def _subjects(url: str, stream: str) -> dict[int, str]:
    """Subject by sequence; a server that has a replica answers a direct get itself."""
    client = await nats.connect(url)
    found: dict[int, str] = {}
    done = asyncio.Event()

    async def heard(message: Msg) -> None:
        headers = message.headers or {}
        if "Nats-Sequence" in headers:
            found[int(headers["Nats-Sequence"])] = headers["Nats-Subject"]
        else:
            done.set()

    try:
        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=heard)
        before = -1
        while len(found) > before:  # an answer is cut at the server's limit of bytes
            before = len(found)
            done.clear()
            ask = {"seq": max(found, default=0) + 1, "batch": 1 << 20}
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(ask).encode(), reply=inbox)
            await asyncio.wait_for(done.wait(), 20)
    finally:
        await client.close()
    return found
