"""The same for code without a loop: `with runner.connect_sync() as app:`; the connection lives in a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, overload

from anyio.from_thread import BlockingPortal, start_blocking_portal

from runner.config import Settings
from runner.engine.client import App, connect
from runner.jetstream.publisher import PubAck

T = TypeVar("T")


class BlockingApp:
    """A connection outside of functions, for code without a loop: each call waits for its end.

    It may be used from several threads at once, until its block ends. A forked process needs its own.
    """

    def __init__(self, app: App, portal: BlockingPortal) -> None:
        self._app = app
        self._portal = portal
        self._process = os.getpid()

    def publish(
        self,
        subject: str,
        body: Any,
        *,
        headers: Mapping[str, str] | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> PubAck:
        """Store one message and return where it stands, as `App.publish` does."""
        return self._call(lambda: self._app.publish(subject, body, headers=headers, delay=delay, at=at))

    @overload
    def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: type[T],
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> T: ...

    @overload
    def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any: ...

    def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Ask a service and decode its answer, as `App.request` does."""
        return self._call(
            lambda: self._app.request(subject, body, returns=returns, headers=headers, timeout=timeout)
        )

    def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        if os.getpid() != self._process:  # the thread has not come along: the call would wait for ever
            raise RuntimeError(
                "this connection belongs to the process that was forked: open one in this process"
            )
        return self._portal.call(work)


@contextmanager
def connect_sync(
    nats_url: str | None = None, *, settings: Settings | None = None, project: Path | str | None = None
) -> Iterator[BlockingApp]:
    """Connect for the time of the block, for code without a loop; finds NATS as `connect` does.

    In code with a loop every call would stop it: use `async with runner.connect()` there.
    Raises `Unreachable` and `SettingsError`.
    """
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(connect(nats_url, settings=settings, project=project)) as app,
    ):
        yield BlockingApp(app, portal)
