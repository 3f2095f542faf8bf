"""Whether the replicas of a sharded stream hold the same: read out of the servers' files, for a server answers for others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tests.support.server import NatsServer

_STORED = re.compile(rb"shard\.(\d+)\.\d+\.")


def differing(servers: Sequence[NatsServer], stream: str) -> str:
    """Say how many messages each server has in each generation of shards; empty where all have the same.

    nats-server 2.15.1 applies a stream's `subject_transform` where each replica stores a message, and a change of it reaches
    the replicas one by one: a message of that moment may stand in another generation at one server, for good.
    """
    found = [
        Counter(
            int(generation)
            for block in server.store.rglob(f"streams/{stream}/msgs/*.blk")
            for generation in _STORED.findall(block.read_bytes())
        )
        for server in servers
    ]
    if all(each == found[0] for each in found):
        return ""
    lines = [
        f"  {server.directory.name}: {dict(sorted(each.items()))}"
        for server, each in zip(servers, found, strict=True)
    ]
    return "the replicas differ in the generation of messages, by the server's fault:\n" + "\n".join(lines)
