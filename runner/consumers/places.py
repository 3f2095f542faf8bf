"""The durables that a function without order may read: what each stands for, how it is named, and how it is made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.bindings import Binding
from runner.consumers.predecessors import PROJECT, SUBJECT
from runner.consumers.source import Source, reader
from runner.core import sharding
from runner.core.reading import Place
from runner.core.streams.plan import ALSO
from runner.jetstream import consumer
from runner.jetstream.consumer import ConsumerConfig
from runner.jetstream.inventory import consumers_on, subjects_of
from runner.runtime.runtime import Runtime

NARROWED = "jetrunner.narrowed"
"""Of a durable that read more before: what it has delivered of that comes again, and is not its own any more."""


class Places:
    """Those of one function."""

    def __init__(self, runtime: Runtime, binding: Binding, stream: str, durable: str) -> None:
        self._connection = runtime.connection
        self._project = runtime.project
        self._binding = binding
        self._stream = stream
        self._durable = durable
        config = runtime.topology.config(stream)
        self.sharded = sharding.read(config) is not None
        self._captured = config.get("subjects") or ()

    def of(self, info: Mapping[str, Any]) -> Place | None:
        """What a durable reads; None where that is no subject of a function's."""
        config = info["config"]
        found = subjects_of(config)
        if not found and (told := (config.get("metadata") or {}).get(SUBJECT)):
            found = (told,)
        return Place(info["name"], found[0]) if len(found) == 1 else None

    async def beside(self) -> dict[Place, dict[str, Any]]:
        """The durables beside the first one, and what the server says of each."""
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
        """The first durable, for a subject."""
        return self.config(Place(self._durable, subject), narrowed=narrowed)

    def config(self, place: Place, *, start: int = 0, narrowed: bool = False) -> ConsumerConfig:
        """A durable as it is wanted."""
        whole = self.sharded and sharding.reads_all(place.subject, self._captured)
        made = consumer.config(
            place.durable, place.subject, self._binding.deliver, self._binding.function,
            reads="stream" if whole else "shards" if self.sharded else "subject", start=start,
        )  # fmt: skip
        told = {**made.metadata, SUBJECT: place.subject, PROJECT: self._project}
        if narrowed:
            told[NARROWED] = "yes"
        return msgspec.structs.replace(made, metadata=told)

    def source(self, wanted: ConsumerConfig, info: Mapping[str, Any]) -> Source:
        """How the first durable is read."""
        narrowed = NARROWED in (info["config"].get("metadata") or {})
        if not (self.sharded or narrowed):
            return Source(wanted)
        return Source(wanted, reader(wanted.metadata[SUBJECT], ()))
