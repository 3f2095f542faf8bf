"""Publish and request from code without an event loop: `with runner.connect_sync() as app:`. The connection has its own thread."""

from __future__ import annotations

import atexit
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakSet

from anyio.from_thread import BlockingPortal, start_blocking_portal

from runner.client import App, connect
from runner.config import Settings
from runner.core.balancer import Policy
from runner.jetstream.publisher import PubAck

T = TypeVar("T")

HOW = "write `with runner.connect_sync() as app:`, or app = runner.connect_sync().open()"
CLOSED = "this connection is closed: open one with runner.connect_sync()"


class BlockingApp:
    """A connection outside of functions, for code without a loop: each call blocks until its result is there.

    It may be used from several threads at once, until its block ends or `close` is called. A forked process needs its own.
    """

    def __init__(self, app: App, portal: BlockingPortal, opened: ExitStack) -> None:
        self._app = app
        self._portal = portal
        self._opened = opened
        self._process = os.getpid()
        self._closed = False

    def close(self) -> None:
        """Close the connection; a second call does nothing. Calls in which other threads wait fail."""
        if not self._closed and os.getpid() == self._process:  # in a forked process it is the parent's
            self._closed = True
            atexit.unregister(self.close)
            self._opened.close()

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
        policy: Policy | None = None,
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
        policy: Policy | None = None,
    ) -> Any: ...

    def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Any:
        """Ask a service and decode its answer, as `App.request` does."""
        return self._call(
            lambda: self._app.request(
                subject, body, returns=returns, headers=headers, timeout=timeout, policy=policy
            )
        )

    def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        if os.getpid() != self._process:  # a fork copies no thread: the call would wait for ever
            raise RuntimeError(
                "this connection belongs to the process that was forked: open one in this process"
            )
        if self._closed:
            raise RuntimeError(CLOSED)
        try:
            return self._portal.call(work)
        except RuntimeError:
            if self._closed:
                raise RuntimeError(CLOSED) from None
            raise


class PendingConnection:
    """A connection that is not open yet: `with` opens it for a block, `open` until `close`."""

    def __init__(self, connecting: Callable[[], AbstractAsyncContextManager[App]]) -> None:
        self._connecting = connecting
        self._apps: list[BlockingApp] = []

    def open(self) -> BlockingApp:
        """Connect until `close` is called, or the process ends. Raises `Unreachable` and `SettingsError`."""
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            app = stack.enter_context(portal.wrap_async_context_manager(self._connecting()))
            opened = BlockingApp(app, portal, stack.pop_all())
            _portals.add(portal)
        atexit.register(opened.close)
        return opened

    def __enter__(self) -> BlockingApp:
        self._apps.append(self.open())
        return self._apps[-1]

    def __exit__(self, *_: object) -> None:
        self._apps.pop().close()

    if not TYPE_CHECKING:  # a type checker reports such a name by itself

        def __getattr__(self, name: str) -> Any:
            if hasattr(BlockingApp, name):
                raise RuntimeError(f"connect_sync() is not open: {HOW}")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def connect_sync(
    nats_url: str | None = None, *, settings: Settings | None = None, project: Path | str | None = None
) -> PendingConnection:
    """Connect from code without a loop: for a `with` block, or from `.open()` until `.close()`. It finds NATS as `connect` does.

    In code with a loop every call would block the loop: use `async with runner.connect()` there.
    Opening the connection raises `Unreachable` and `SettingsError`.
    """
    return PendingConnection(lambda: connect(nats_url, settings=settings, project=project))


_portals: WeakSet[BlockingPortal] = WeakSet()


def _in_child() -> None:
    """In a forked process, mark each portal as ended: its thread was not copied, and Python would wait for it for ever at the end."""
    for portal in _portals:
        portal._event_loop_thread_id = None  # noqa: SLF001  a portal without this id has ended


os.register_at_fork(after_in_child=_in_child)
