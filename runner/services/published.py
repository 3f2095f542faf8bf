"""Messages that a handler has published while it answered a request: they are stored before the answer leaves."""

from __future__ import annotations

import time
from typing import Any, cast

from runner.bindings import Binding
from runner.core.origin import Origin
from runner.jetstream.delivery import Delivery
from runner.jetstream.publisher import PubAck
from runner.pipeline.message import Incoming
from runner.pipeline.outbox import Outbox
from runner.runtime.runtime import Runtime
from runner.services.request import Request
from runner.staged import Staged


class Published:
    """Stores what one function publishes. No stream stores a request, so the messages of each run have ids of their own."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._runtime = runtime
        self._function = binding.function
        self._number = 0

    async def store(
        self, request: Request, staged: list[Staged], same: str = ""
    ) -> tuple[str, PubAck] | None:
        """Store the messages together; gives the stream of the last one, and its PubAck. Waits while a stream is full or out of reach.

        `same` is a text that requests share if their messages are the same. Raises ServerError and ValueError.
        """
        self._number += 1
        # `Outbox` takes messages to derive from a message of a stream; here each run counts as a message of a stream of its own.
        instance = self._runtime.instance
        origin = Origin(instance, self._number, time.time_ns(), request.text)
        if same:
            origin = Origin(same, 0, 0, request.text)
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
        incoming = Incoming(delivery, origin, instance, origin.sequence, origin.timestamp_ns, False)
        outbox = Outbox(self._runtime, self._function, staged, incoming, ordered=False)
        await outbox.store()
        return outbox.stored
