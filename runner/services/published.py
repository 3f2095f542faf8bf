"""What a handler has published while it answered a request: stored before the answer leaves."""

from __future__ import annotations

import time
from typing import Any, cast

from runner.bindings import Binding
from runner.core.origin import Origin
from runner.jetstream.delivery import Delivery
from runner.pipeline.message import Incoming
from runner.pipeline.outbox import Outbox
from runner.runtime.runtime import Runtime
from runner.services.request import Request
from runner.staged import Staged


class Published:
    """Of one function. A request stands in no stream: each run's messages have ids of their own."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._runtime = runtime
        self._function = binding.function
        self._number = 0

    async def store(self, request: Request, staged: list[Staged]) -> None:
        """Store them together; waits as long as a stream is full or away. Raises ServerError and ValueError."""
        self._number += 1
        # As `Outbox` knows them, a run's messages belong to a message of a stream: this one is of a stream of its own.
        origin = Origin(self._runtime.instance, self._number, time.time_ns(), request.text)
        delivery = Delivery(
            request.subject,
            b"",
            request.header,
            request.body,
            0,
            1,
            cast("Any", None),
            False,
            span=request.span,
        )
        incoming = Incoming(delivery, origin, origin.stream, origin.sequence, origin.timestamp_ns, False)
        await Outbox(self._runtime, self._function, staged, incoming, ordered=False).store()
