"""The durables that a function without order may read: the subject of each, its name, and its settings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.bindings import Binding
from runner.consumers.durablesource import DurableSource, reader
from runner.consumers.predecessors import PROJECT, SUBJECT
from runner.core import sharding
from runner.core.reading import Durable
from runner.core.streams.plan import ALSO
from runner.jetstream import consumer
from runner.jetstream.consumer import ConsumerConfig
from runner.jetstream.inventory import consumers_on, subjects_of
from runner.runtime.runtime import Runtime

NARROWED = "jetrunner.narrowed"
"""Metadata of a durable that read more before: messages of the rest that it has delivered come again, and are not its own any more."""


class Places:
    """The durables that one function may read."""

    def __init__(self, runtime: Runtime, binding: Binding, stream: str, durable: str) -> None:
        self._connection = runtime.connection
        self._project = runtime.project
        self._binding = binding
        self._stream = stream
        self._durable = durable
        config = runtime.topology.config(stream)
        self.sharded = sharding.read(config) is not None
        self._captured = config.get("subjects") or ()

    def of(self, info: Mapping[str, Any]) -> Durable | None:
        """A durable and its subject; None if it has not exactly one subject."""
        config = info["config"]
        found = subjects_of(config)
        if not found and (told := (config.get("metadata") or {}).get(SUBJECT)):
            found = (told,)
        return Durable(info["name"], found[0]) if len(found) == 1 else None

    async def beside(self) -> dict[Durable, dict[str, Any]]:
        """The durables beside the first one, with the server's info of each."""
        infos = [
            each
            for each in await consumers_on(self._connection, self._stream)
            if each["name"].startswith(f"{self._durable}-{ALSO}-")
        ]
        return {place: each for each in infos if (place := self.of(each)) is not None}

    def name(self, subject: str) -> str:
        """The name of a durable for a subject beside the first one."""
        digest = hashlib.blake2b(subject.encode(), digest_size=4).hexdigest()
        return f"{self._durable}-{ALSO}-{digest}"

    def first(self, subject: str, *, narrowed: bool = False) -> ConsumerConfig:
        """The settings of the first durable, for a subject."""
        return self.config(Durable(self._durable, subject), narrowed=narrowed)

    def config(self, place: Durable, *, start: int = 0, narrowed: bool = False) -> ConsumerConfig:
        """The settings that a durable should have."""
        whole = self.sharded and sharding.reads_all(place.subject, self._captured)
        made = consumer.config(
            place.durable, place.subject, self._binding.deliver, self._binding.function,
            reads="stream" if whole else "shards" if self.sharded else "subject", start=start,
        )  # fmt: skip
        told = {**made.metadata, SUBJECT: place.subject, PROJECT: self._project}
        if narrowed:
            told[NARROWED] = "yes"
        return msgspec.structs.replace(made, metadata=told)

    def source(self, wanted: ConsumerConfig, info: Mapping[str, Any]) -> DurableSource:
        """The first durable as a source: its settings, and the reader of its subjects where one is needed."""
        narrowed = NARROWED in (info["config"].get("metadata") or {})
        if not (self.sharded or narrowed):
            return DurableSource(wanted)
        return DurableSource(wanted, reader(wanted.metadata[SUBJECT], ()))
