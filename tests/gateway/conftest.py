"""The HTTP edge on a real server, and clients that say whatever a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

import httpx
import pytest

from runner import testing


class Here(NamedTuple):
    """What runs, and who asks."""

    app: testing.App
    client: httpx.AsyncClient


Serving: TypeAlias = Callable[..., AbstractAsyncContextManager[Here]]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of a server that stands still is waited for, where a test gives no timeout of its own."""
    monkeypatch.setattr("runner.gateway.streams.PATIENCE_SECONDS", 60.0)


@pytest.fixture
def serving() -> Serving:
    """`async with serving(find, change) as (app, client)`."""

    @asynccontextmanager
    async def serving(*functions: Callable[..., Any], **options: Any) -> AsyncIterator[Here]:
        async with (
            testing.run(*functions, **options) as app,
            httpx.AsyncClient(base_url=app.http, timeout=60) as client,
        ):
            yield Here(app, client)

    return serving
