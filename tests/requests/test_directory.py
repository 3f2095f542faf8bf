"""Who is known to answer: instances that were missed are found again, and those that are gone are forgotten."""

from __future__ import annotations

import pytest

from runner.client import App
from tests.requests.conftest import Here
from tests.support.eventually import eventually

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_an_asker_with_few_quick_requests_finds_an_instance_whose_news_were_missed(
    app: App, instance: Here
) -> None:
    await instance("a")
    assert await app.request("quote.1", None) == "a"
    directory = app._requester.directory
    await eventually(lambda: directory._ready)
    await instance("b", tell=False)
    directory.ask_soon()
    assert await app.request("quote.1", None) in {"a", "b"}
    await eventually(lambda: ("shop", "b") in directory.peers)
