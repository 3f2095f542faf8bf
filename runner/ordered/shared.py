"""What all shards of one function share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from runner.consumers.durables import Durables
from runner.ordered.diversion import Diversion
from runner.ordered.settlement_log import SettlementLog
from runner.ordered.windows import Windows
from runner.pipeline.outcomes import StartGuard
from runner.pipeline.pipeline import Pipeline
from runner.runtime.history import History
from runner.runtime.runtime import Runtime


class Shared(Struct, frozen=True):
    """What the shards of one function share; made once, before the first shard."""

    runtime: Runtime
    pipeline: Pipeline
    """Where the messages of all of them run."""
    guard: StartGuard
    """Whether this instance may start ordered work."""
    history: History
    """The history of the stream that they are in."""
    durables: Durables
    log: SettlementLog
    parking: Diversion
    key_of: Callable[[bytes], Any]
    """Reads the key from an original subject."""
    windows: Windows | None = None
    """Batches that wait for more messages; None if the function takes no batches."""
