"""Functions that answer, on a real server, and whoever asks them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

import pytest

from runner import testing
from tests.support.asker import Asker, asking


class Here(NamedTuple):
    """What runs, and who asks."""

    app: testing.App
    ask: Asker


Answering: TypeAlias = Callable[..., AbstractAsyncContextManager[Here]]


@pytest.fixture
def answering() -> Answering:
    """`async with answering(quote, stock) as (app, asker)`."""

    @asynccontextmanager
    async def answering(*functions: Callable[..., Any], **options: Any) -> AsyncIterator[Here]:
        async with testing.run(*functions, **options) as app, asking(app.url) as asker:
            yield Here(app, asker)

    return answering
