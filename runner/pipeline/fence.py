"""A shard's fences: one in each stream that its function's outputs go to, written anew by each owner.

Rule 1: the fence in the stream of `output=` is written before any message starts here, unless that stream is not there; the fence in
        another stream before the first output goes there. Then the server refuses outputs of a previous owner that still runs.
Rule 2: a refused output proves nothing by itself: the fence is read again. If neither the fence nor the claim is ours any more, the
        shard is lost. If the stream's limits have removed the fence, it is written again.
Rule 3: it is written by compare-and-set, so no owner overwrites what it has not seen.
Rule 4: after a lost connection no output is written under a fence before the stream that the shard reads is known to be the same.
        In an older copy an earlier message runs again whose output is lost.
Rule 5: a fence is stored after all outputs of the earlier owners, so while it is there, none of those is lost (`stored.py`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from runner.core import fence as rules
from runner.core import header
from runner.core.address import Address
from runner.core.claim import UNOWNED, Claim, decode
from runner.core.fence import StandingFence
from runner.core.streams.capture import capture, subjects_of_stream
from runner.core.subject import Template
from runner.errors import JetrunnerError, NoStream, ServerError, ShardLost
from runner.jetstream import codes, tolerant
from runner.jetstream.batches import limit_incomplete
from runner.jetstream.fenced import FencedWriter, Message
from runner.jetstream.messages import leader_message, swap
from runner.jetstream.place import Place
from runner.jetstream.publisher import Doubt, Outgoing, PubAck, read_ack, retry_until
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.fences")


class ShardOwnership(msgspec.Struct, frozen=True):
    """One ownership of a shard, from claim to release."""

    claim: Claim
    lasts: Callable[[], Awaitable[bool]]
    """Reads the claim again, and says whether it still stands. Raises the ServerError family."""
    end: Callable[[], None]
    """Called when another instance owns the shard."""


class Fence:
    """One shard's fence in one stream."""

    def __init__(
        self, runtime: Runtime, stream: str, address: Address, ownership: ShardOwnership, paused: bool
    ) -> None:
        self.stream = stream
        self._paused = paused
        self._runtime = runtime
        self._subject = rules.of_shard(stream, address)
        self._stored = runtime.histories.of(address.stream).stored
        self._ownership = ownership
        config = runtime.topology.config(stream)
        self._writer = FencedWriter(
            runtime.connection,
            stream,
            serial=config.get("num_replicas", 1) > 1,
            atomic=bool(config.get("allow_atomic")),
            refused=self._look,
        )
        self.send = self._writer.send
        """The writer's `send`: writes one message without waiting."""
        self._closed = False
        self._stood = -math.inf
        self._pause = 0.0
        self._found: asyncio.Future[bool] | None = None
        """The result of the last check: whether the fence is ours."""

    async def stand(self) -> bool:
        """Return once the fence is ours; False if the shard is lost."""
        if self._found is None:
            self._look()
        assert self._found is not None
        return await asyncio.shield(self._found)

    def pause(self) -> None:
        """Write nothing until `resume`."""
        self._paused = True
        self._writer.wait()

    def resume(self) -> None:
        """Check the fence, and write again."""
        self._paused = False
        self._look()

    async def store(self, messages: Sequence[Outgoing], doubt: Doubt) -> PubAck:
        """Store messages together, each with its Msg-Id; an error that may pass is repeated for ever.

        Raises `ShardLost`, `Elsewhere`, and the ServerError family for errors that waiting cannot mend.
        """
        raw = [raw_message(message) for message in messages]
        attempt = limit_incomplete(lambda: self._store(raw), tries=1)
        return await retry_until(attempt, math.inf, f"output to {messages[0].subject}", doubt)

    async def _store(self, messages: Sequence[Message]) -> PubAck:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._writer.put(messages, _answer, future)
        return read_ack(await future, self.stream)

    def _look(self) -> None:
        """Start to check the fence; no output is written meanwhile."""
        if not self._closed:
            self._found = self._runtime.loop.create_future()
            self._runtime.tasks.start_soon(self._stand, self._found)

    async def _stand(self, found: asyncio.Future[bool]) -> None:
        wait, told = 0.01, False
        # A fence that is refused again and again, for whatever reason, must not keep the server busy.
        self._pause = min(1.0, self._pause * 2 + 0.005) if time.monotonic() - self._stood < 1.0 else 0.0
        await asyncio.sleep(self._pause)
        while not self._closed:
            try:
                sequence = await self._take()
                if sequence is None:
                    self._lost()
                elif sequence:
                    self._hold(rules.expect(self._subject, sequence), found)
                    return
            except NoStream:
                if await self._unfenced():
                    self._hold(b"", found)
                    return
            except ServerError as error:
                if error.code == codes.STREAM_NOT_FOUND:
                    self._hold(rules.expect(self._subject, rules.NOWHERE), found)
                    return
                if wait > 0.5 and not told:
                    told = True
                    log.warning("fence %s cannot be written, so its shard waits: %s", self._subject, error)
            await asyncio.sleep(wait)
            wait = min(1.0, wait * 2)
        found.set_result(False)

    def _hold(self, expect: bytes, found: asyncio.Future[bool]) -> None:
        self._stood = time.monotonic()
        found.set_result(True)
        if not self._paused:
            self._writer.hold(expect)

    async def _take(self) -> int | None:
        """Try once to write our fence: its sequence, 0 if somebody was faster, None if the shard is not ours."""
        claim = self._ownership.claim
        standing = await self._read()
        judgement = rules.judge(standing, claim.owner, claim.epoch)
        if judgement == "ours":
            return standing.sequence
        if judgement == "doubtful" and not await self._ownership.lasts():
            return None
        body, connection = msgspec.json.encode(claim), self._runtime.connection
        try:
            sequence = await swap(connection, self._subject, body, standing.sequence) or 0
            self._stored.note(Place(self.stream, sequence, self._subject))
            return sequence
        except ServerError as error:
            if error.code == codes.WRONG_LAST_SEQUENCE_YET:
                return 0
            if not await self._ownership.lasts():
                return None
            raise

    async def _read(self) -> StandingFence:
        """The fence in the stream, read from the leader: a replica may be behind."""
        ask = {"last_by_subj": self._subject}
        found = await leader_message(self._runtime.connection, self.stream, ask)
        if found is None:
            return StandingFence()
        claim = tolerant.read(decode, found.body, "a claim") or UNOWNED
        return StandingFence(found.sequence, claim.owner, claim.epoch)

    async def _unfenced(self) -> bool:
        """Whether the stream was made again or changed, so that it holds no fences now."""
        try:
            await self._runtime.topology.load()
        except ServerError:
            return False
        config = self._runtime.topology.config(self.stream)
        return bool(config) and not rules.holds(config)

    def _lost(self) -> None:
        log.warning("output under %s is refused: another instance owns the shard", self._subject)
        self._ownership.end()
        self.close()

    def close(self) -> None:
        """The ownership is over: write no more outputs."""
        self._closed = True
        self._writer.fail(ShardLost("another instance owns the shard"))


class Fences:
    """All fences of one shard, while this instance owns it."""

    def __init__(self, runtime: Runtime, address: Address, output: Template | None) -> None:
        self.main: Fence | None = None
        """The fence in the stream of `output=`; None if the function has no output, or the stream holds no fences."""
        self.ownership: ShardOwnership | None = None
        self._runtime = runtime
        self._address = address
        self._output = output
        self._fences: dict[str, Fence] = {}
        self._paused = False

    def pause(self) -> None:
        """The connection is lost: no output is written before `resume`."""
        self._paused = True
        for each in self._fences.values():
            each.pause()

    def resume(self) -> None:
        """The stream is the same on this connection: outputs may be written again."""
        if self._paused:
            self._paused = False
            for each in self._fences.values():
                each.resume()

    def forget_waiting(self) -> None:
        """Refuse the outputs that wait to be written: the stream has lost their input messages."""
        fences, self._fences = self._fences, {}
        for each in fences.values():
            each.close()
        if self.main is not None and self.ownership is not None:
            self.main = self._make(self.main.stream, self.ownership)
            if not self._paused:
                self.main.resume()

    def begin(self, ownership: ShardOwnership) -> None:
        """Begin an ownership: its outputs go under new fences."""
        self.end()
        self.ownership = ownership

    async def stand(self) -> None:
        """Write the fence in the stream of `output=`. The caller checks afterwards whether the shard is still owned."""
        stream = self._output_stream()
        if stream is not None and self.ownership is not None:
            self.main = self._make(stream, self.ownership)
            main: Fence | None = self.main
            while main is not None and not await main.stand() and self.main is not main:
                main = self.main  # the stream has lost messages meanwhile: another fence was begun

    async def of(self, stream: str) -> Fence | None:
        """The fence in any stream, once it is ours; None if the stream holds no fences. Raises `ShardLost`."""
        found = self._fences.get(stream)
        if found is None:
            if not rules.holds(self._runtime.topology.config(stream)):
                return None
            if self.ownership is None:
                raise ShardLost("another instance owns the shard")
            found = self._make(stream, self.ownership)
        if not await found.stand():
            raise ShardLost("another instance owns the shard")
        return found

    def end(self) -> None:
        """The shard is no longer ours."""
        fences, self._fences = self._fences, {}
        self.ownership = self.main = None
        for each in fences.values():
            each.close()

    def _make(self, stream: str, ownership: ShardOwnership) -> Fence:
        made = Fence(self._runtime, stream, self._address, ownership, self._paused)
        self._fences[stream] = made
        return made

    def _output_stream(self) -> str | None:
        """The stream of `output=`; None if it holds no fences."""
        topology = self._runtime.topology
        if self._output is None:
            return None
        known = [subjects_of_stream(name, config) for name, config in topology.streams.items()]
        try:
            stream = capture(self._output.wildcard, known, publishing=True)
        except JetrunnerError:
            return None  # the stream is gone: an output waits for it, and makes its fence then
        return stream if rules.holds(topology.config(stream)) else None


def raw_message(message: Outgoing) -> Message:
    """A message in the form that the writer takes."""
    head = header.encode(list(message.headers))
    return message.subject.encode(), message.body, head[:-2]


def _answer(future: asyncio.Future[bytes], _: bytes | None, answer: bytes, error: ServerError | None) -> None:
    if not future.done():
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answer)
