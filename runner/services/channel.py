"""The interface of a channel: requests over NATS and over HTTP are read and answered in different ways."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from runner.bindings import Binding
from runner.context import Context
from runner.core.service import NotStarted
from runner.core.settlement import Outcome
from runner.pipeline.call import Calling
from runner.runtime.runtime import Runtime
from runner.services.counts import Counts
from runner.services.reports import Reports
from runner.services.request import Request
from runner.services.waiting import Waiting
from runner.staged import Staged

R_contra = TypeVar("R_contra", bound=Request, contravariant=True)
ENDS = "the instance ends, and the handler was cancelled"


class Channel(Protocol[R_contra]):
    """Brings the requests of one function, and sends their answers."""

    binding: Binding
    stats: Counts
    reports: Reports
    calling: Calling
    call: Callable[..., Awaitable[Any]]
    """Calls the handler with the arguments that `bound` gives."""
    waiting: Waiting
    """The line in which its requests wait; set by the responder."""

    @property
    def blocked(self) -> str:
        """Why no requests come; empty while they do."""

    def bound(self, request: R_contra, context: Context[Any] | None) -> Sequence[Any]:
        """The arguments of the handler. Raises whatever decoding raises."""

    async def store(self, request: R_contra, result: Any, staged: list[Staged] | None) -> Any:
        """Store the messages that the handler made, if the result can be sent; gives the result. Raises ServerError and ValueError."""

    def succeed(self, request: R_contra, result: Any, most: int) -> None:
        """Answer with a result; the server takes `most` bytes. Raises ValueError if it cannot be sent."""

    def facts(self, request: R_contra) -> dict[str, Any]:
        """The facts of a handler's context; made when the handler asks for one."""

    def turn_away(self, request: R_contra, why: NotStarted) -> None:
        """Answer that the handler has not begun."""

    def cut_off(self, request: R_contra) -> None:
        """Answer that the handler was cancelled because the process ends."""

    def fail(self, request: R_contra, outcome: Outcome) -> None:
        """Answer with an error, once."""

    def too_late(self, request: R_contra) -> None:
        """Answer for a handler that ignores its timeout, or that runs in a thread and cannot be cancelled."""


def facts_of(request: Request, binding: Binding, runtime: Runtime) -> dict[str, Any]:
    """The facts of a context that are the same for any request."""
    return {
        "function": binding.function,
        "subject": request.text,
        "template": binding.subject,
        "headers": request.header,
        "timestamp_ns": time.time_ns() - int((time.monotonic() - request.arrived) * 1e9),
        "expires": request.until,
        "state": runtime.state,
        "host": runtime.requester,
    }
