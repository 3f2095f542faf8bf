"""Who owned which shard when, as overheard: and whether anything was started by one that another had come after."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from nats.aio.msg import Msg

from tests.support.jetstream import RawJetStream
from tests.support.order import Line

CLAIMS = "$KV.jetrunner.claim.shop.post."


class Claim(NamedTuple):
    """One claim that somebody wrote; the server may have refused it."""

    since: float
    epoch: int
    pid: str


class Overheard:
    """Claims by the shard's name, `<generation>.<number>`."""

    def __init__(self) -> None:
        self.claims: dict[str, list[Claim]] = {}

    @staticmethod
    @asynccontextmanager
    async def at(urls: Sequence[str]) -> AsyncIterator[Overheard]:
        """Listen at each of these servers: what is written at one is heard there, whatever lies between them."""
        overheard = Overheard()
        async with AsyncExitStack() as stack:
            for url in urls:
                js = await stack.enter_async_context(RawJetStream.connect(url))
                await js.client.subscribe(CLAIMS + ">", cb=overheard._heard)
                await js.client.flush()
            yield overheard

    async def _heard(self, message: Msg) -> None:
        try:
            written = json.loads(message.data)
            owner, epoch = str(written["owner"]), int(written["epoch"])
            claim = Claim(float(written.get("since", time.time())), epoch, owner.rsplit("-", 2)[1])
        except (ValueError, KeyError, IndexError):
            return
        self.claims.setdefault(message.subject.removeprefix(CLAIMS), []).append(claim)

    def epoch(self, shard: str, pid: str, moment: float) -> int | None:
        """The highest epoch under which a process may have owned a shard at that moment; None: of none it was heard."""
        return max(
            (
                claim.epoch
                for claim in self.claims.get(shard, ())
                if claim.pid == pid and claim.since <= moment
            ),
            default=None,
        )


class Ownerships(NamedTuple):
    """What the check of a journal has found."""

    late: list[str]
    """Starts by an owner after one that came after it had started something in the shard."""
    unknown: int
    """Starts by a process of which no claim was heard."""


def check_ownerships(lines: Iterable[str], overheard: Overheard, shards: Mapping[int, str]) -> Ownerships:
    """Check that the owners' epochs never go back in a shard's starts; `shards` tells each sequence's shard.

    One that was frozen between the decision to start something and its first line may write that line late.
    """
    late: list[str] = []
    unknown = 0
    newest: dict[str, tuple[int, str]] = {}
    thawed: set[str] = set()
    for number, text in enumerate(lines, 1):
        kind, *rest = text.split()
        if kind == "T":
            thawed.add(rest[0])
        elif kind in {"P", "R"}:  # what was claimed is gone: epochs may begin again
            newest.clear()
        elif kind == "S":
            line = Line.read(text)
            shard = shards.get(line.sequence, "")
            epoch = overheard.epoch(shard, line.pid, line.time)
            highest, owner = newest.get(shard, (0, ""))
            first_after_thaw = line.pid in thawed
            thawed.discard(line.pid)
            if epoch is None:
                unknown += 1
            elif epoch > highest:
                newest[shard] = (epoch, line.pid)
            elif (epoch < highest or owner != line.pid) and not first_after_thaw:
                late.append(
                    f"line {number}: {text.strip()}: shard {shard} was {owner}'s already, of epoch {highest}; "
                    f"this owner's is {epoch}"
                )
    return Ownerships(late, unknown)
