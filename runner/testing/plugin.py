"""The pytest fixture `jetrunner`: functions on a real server, one server for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from runner.testing.app import App
    from runner.testing.declared import GivenStreams


class Jetrunner:
    """Runs functions on the session's server: `async with jetrunner(charge) as app`."""

    def __init__(self, url: str) -> None:
        self.url = url
        """The URL of the server, for other clients."""

    def __call__(
        self,
        *functions: Callable[..., Any],
        streams: GivenStreams = None,
        retry_scale: float = 0.01,
        around: Sequence[Callable[..., Any]] = (),
        expires_scale: float = 1.0,
        processes: bool = True,
    ) -> AbstractAsyncContextManager[App]:
        """Run functions for the time of the block, as `runner.testing.run` does."""
        from runner.testing.app import run  # noqa: PLC0415  a session without such a test needs no NATS client

        return run(
            *functions,
            streams=streams,
            retry_scale=retry_scale,
            url=self.url,
            around=around,
            expires_scale=expires_scale,
            processes=processes,
        )

    run = __call__


@pytest.fixture(scope="session")
def jetrunner_server() -> Iterator[str]:
    """The URL of a nats-server for the session."""
    from runner.testing.server import server  # noqa: PLC0415

    with server() as url:
        yield url


@pytest.fixture
def jetrunner(jetrunner_server: str) -> Iterator[Jetrunner]:
    """Runs the functions of a test on a real server; what they leave there is deleted after the test."""
    from runner.testing.clearing import clear  # noqa: PLC0415

    yield Jetrunner(jetrunner_server)
    clear(jetrunner_server)
