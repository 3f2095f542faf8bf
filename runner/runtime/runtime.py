"""The objects that all functions of one process share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from anyio.abc import TaskGroup
from msgspec import Struct, structs

from runner.config import Settings
from runner.core.answered import Answered
from runner.core.redaction import Rules, Values
from runner.core.settlement import Outcome, Settlement
from runner.jetstream import kv
from runner.jetstream.connection import Connection
from runner.jetstream.kv import KV
from runner.jetstream.topology import Topology
from runner.requests.requester import Requester
from runner.runtime.cell import Cells
from runner.runtime.cellline import CellSetup, GivenFunctions
from runner.runtime.children import Children
from runner.runtime.floors import Floors
from runner.runtime.histories import Histories
from runner.runtime.kepterrors import KeptErrors
from runner.runtime.quarantine import Quarantine
from runner.runtime.slots import Slots
from runner.telemetry.tracing import Tracing


class Attempted(Struct, frozen=True, kw_only=True):
    """An attempt that has ended."""

    function: str
    message_id: str
    """The message's id; for a request its subject."""
    number: int
    """The number of the attempt; the first is 1."""
    outcome: Outcome
    settlement: Settlement | Answered
    """What followed; for a request, how it was answered."""
    seconds: float
    """Time in the handler."""
    trace_id: str
    """The trace's id; empty if there is no trace."""
    hidden: Values
    """Values of the message that must not be shown."""


Observer: TypeAlias = Callable[[Attempted], None]
"""Called at the end of every attempt, right after its settlement was sent; so `runner dev` prints a line for each."""


class Instance(Struct, frozen=True, kw_only=True):
    """One process that runs functions of a project."""

    project: str
    name: str
    """Names this process, and no other process before or after it."""
    settings: Settings
    root: Path = Path()
    """The project's folder; places in its code are given relative to it."""
    given: GivenFunctions | None = None
    """Functions that are used instead of those in that folder."""


class Runtime:
    """The shared things of a running process; made once, before its functions."""

    def __init__(
        self,
        instance: Instance,
        connection: Connection,
        topology: Topology,
        tracing: Tracing,
        tasks: TaskGroup,
        observer: Observer | None = None,
    ) -> None:
        self.project = instance.project
        self.instance = instance.name
        self.settings = instance.settings
        self.root = instance.root
        self.connection = connection
        self.topology = topology
        self.kv = KV(connection, kv.PATIENCE_SECONDS)
        self.histories = Histories(connection, tasks)
        self.floors = Floors(self.kv, self.project)
        self.histories.bucket.changed.append(self.floors.forget)
        self.histories.bucket.looked.append(self.floors.looked)
        self.tracing = tracing
        self.redaction = Rules.of(self.settings.redact)
        """Rules for values of messages that must not be shown."""
        self.quarantine = Quarantine()
        self.slots = Slots()
        setup = CellSetup(
            self.root, self.project, structs.replace(self.settings, name=self.project), instance.given
        )
        self.cells = Cells(setup, lambda: self.quarantine.draining or self.slots.ending)
        self.children = Children(setup)
        self.tasks = tasks
        self.errors = KeptErrors(connection, self.project, tasks)
        self.observer = observer
        self.requester = Requester(connection, tracing, instance.settings.balance)
        self.loop = asyncio.get_running_loop()
        self.state: Any = None
        """The value that the project's lifespan yielded."""

    @property
    def cancelling(self) -> bool:
        """Whether running handlers are being cancelled, so that their messages go back."""
        return self.slots.ending
