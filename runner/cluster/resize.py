"""Gives a stream another number of shards, and shows how far its functions are with messages stored before."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from runner.bindings import Binding
from runner.cluster.generations import news_subject
from runner.cluster.member import Member, read_member
from runner.cluster.rollover import OrderedReader, Rollover
from runner.core import generation as generations
from runner.core import identity, sharding
from runner.core.death import MARGIN_SECONDS
from runner.core.generation import OpenGeneration
from runner.core.lease import TTL_SECONDS
from runner.core.sharding import Sharding
from runner.errors import UsageError
from runner.jetstream import consumer, interest, reshard, tolerant
from runner.jetstream.backlog import Backlog
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import PATIENCE_SECONDS, stream_info
from runner.jetstream.kv import KV

State: TypeAlias = Literal["open", "draining", "waiting", "gone"]


class Progress(Struct, frozen=True):
    """How far a function has moved to a stream's present shards."""

    project: str
    function: str
    generation: int
    """The generation that it works on."""
    state: State
    """`waiting`: messages of an older generation are left, and no instance runs the function. `gone`: it is not in the code either."""
    left: int
    """Unsettled messages of older generations."""
    instances: int


class Resize:
    """The shards of one stream, and its ordered functions of all projects of the account.

    `functions` are those in the code of `project`; None if that is not known.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        project: str = "",
        functions: Iterable[Binding] | None = None,
    ) -> None:
        self.stream = stream
        self._project = project
        self._functions = None if functions is None else {each.function: each for each in functions}
        self._connection = connection
        self._kv = KV(connection)
        self._backlog = Backlog(connection)
        self._turnovers: dict[str, Rollover] = {}
        self._absent: dict[tuple[str, str], float] = {}
        """By project and owner of a claim: since when the owner is known to have no lease, by the monotonic clock."""

    async def now(self) -> Sharding:
        """How the stream is sharded. Raises UsageError if it is not, or does not exist."""
        found = sharding.read((await self._info())["config"])
        if found is None:
            raise UsageError(
                f"{self.stream} is not sharded", hint="add [shards] to its file, then run `runner apply`"
            )
        return found

    async def _info(self) -> dict[str, Any]:
        info = await stream_info(self._connection, self.stream)
        if info is None:
            raise UsageError(
                f"there is no stream {self.stream}", hint="runner plan shows those of the project"
            )
        return info

    async def change(self, count: int, by: tuple[int, ...] = ()) -> Sharding:
        """Make the next generation, sharded by the tokens with the indexes `by`. Raises UsageError if it cannot be made."""
        if by:
            await self._require_order(by)
        try:
            await reshard.resize(self._connection, self.stream, count, by, self._prepare)
        except ValueError as error:
            raise UsageError(f"{self.stream}: {error}") from None
        for project in {project for project, _, _ in await self._open_generations()}:
            with suppress(ValueError):  # the name comes from a key of the bucket, and may be invalid
                self._connection.wire.publish(news_subject(project).encode(), self.stream.encode(), b"")
        return await self.now()

    async def _prepare(self, after: dict[str, Any]) -> None:
        """Make the durables of the new shards first, if the stream would drop messages that no consumer reads."""
        now = sharding.read(after)
        if now is None or not interest.forgets(after):
            return
        living = await self._living()
        for project, function, current in await self._open_generations():
            runs = any(function in member.functions for member in living.get(project, {}).values())
            if runs or not self._gone(project, function):
                shards = consumer.of_shards(project, function, current.subject, now, current.first)
                await interest.stand(self._connection, self.stream, shards)

    async def look(self, now: Sharding) -> list[Progress]:
        """How far every function is. A function that no instance runs is stepped on here, once it has no messages left."""
        info = await self._info()
        lags = await reshard.lags(self._connection, self.stream, patience=PATIENCE_SECONDS)
        living = await self._living()
        absent = self._absent.items()
        self._absent = {key: since for key, since in absent if key[1] not in living.get(key[0], {})}
        found = []
        for project, function, standing in await self._open_generations():
            current = standing
            running = {
                name for name, member in living.get(project, {}).items() if function in member.functions
            }
            durables = lags.pop(identity.durable(project, function), [])
            gone = not running and self._gone(project, function)
            if gone and not durables:
                continue
            known = await self._backlog.lags(current, info, durables, older=True)
            left = sum(each.pending + each.unsettled for each in known if each.generation < now.generation)
            if current.generation < now.generation and not running and not left:
                turnover = self._turnovers.setdefault(project, Rollover(self._connection, project))
                reader = OrderedReader(function, self.stream, current.subject)
                gone_owner = partial(self._owner_gone, project, living.get(project, {}))
                current = await turnover.step(reader, gone_owner) or current
            done = current.generation >= now.generation and not current.closing
            state: State = "open" if done else "draining" if running else "waiting"
            state = "gone" if gone else state
            found.append(Progress(project, function, current.generation, state, left, len(running)))
        return sorted(found, key=lambda each: (each.project, each.function))

    async def _require_order(self, by: tuple[int, ...]) -> None:
        """Raise UsageError if sharding by these tokens would divide a key of an ordered function among several shards."""
        living = await self._living()
        for project, function, current in await self._open_generations():
            runs = any(function in member.functions for member in living.get(project, {}).values())
            if not runs and self._gone(project, function):
                continue
            binding = (self._functions or {}).get(function) if project == self._project else None
            known = [(binding.subject.wildcard, binding.key_positions)] if binding is not None else []
            if runs or not known:
                known.append((current.subject, current.keys))
            for subject, keys in known:
                if (place := generations.splitting(subject, keys, by)) is not None:
                    raise UsageError(
                        f"{self.stream} cannot be sharded by token {place + 1} of its subjects: {function} of "
                        f"{project} does not hold it in ordered_by=, so that a key would stand in several shards",
                        hint="let its instances run with that token in ordered_by= first; "
                        "or declare a stream that copies this one, with source =, and shard that",
                    )

    def _gone(self, project: str, function: str) -> bool:
        known = self._functions if project == self._project else None
        return known is not None and function not in known

    def _owner_gone(self, project: str, living: Collection[str], owner: str, _revision: int) -> bool:
        """Whether the owner of a claim starts nothing any more, because it has had no lease for as long as a lease lasts.

        If the bucket has lost the lease of a living owner, the owner writes another one before that.
        """
        if owner in living:
            return False
        since = self._absent.setdefault((project, owner), time.monotonic())
        return time.monotonic() - since >= TTL_SECONDS + MARGIN_SECONDS

    async def _open_generations(self) -> list[tuple[str, str, OpenGeneration]]:
        found = []
        for key, entry in (await self._kv.found(["generation.*.*"])).items():
            current = reshard.parse(entry.value)
            if current is not None and current.stream == self.stream:
                _, project, function = key.split(".")
                found.append((project, function, current))
        return found

    async def _living(self) -> dict[str, dict[str, Member]]:
        found: dict[str, dict[str, Member]] = {}
        for key, entry in (await self._kv.found(["member.*.*"])).items():
            member = tolerant.read(read_member, entry.value, key)
            if member is not None and member.state == "alive":
                found.setdefault(key.split(".")[1], {})[member.instance] = member
        return found
