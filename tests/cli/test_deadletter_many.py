"""`runner deadletter list` where very many dead letters are stored: the newest are read, not all."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

MANY = 12_000
READ_AT_MOST = 2_500
"""Messages that the server sends for one listing of a few."""


class Stacks:
    """A server full of dead letters: every hundredth is `audit`'s, the others are `charge`'s; few are `crashed`."""

    def __init__(self, project: Project, js: RawJetStream, monitor: int) -> None:
        self.project = project
        self.js = js
        self._monitor = monitor

    def sent(self) -> int:
        """Messages that the server has sent to clients so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/varz") as answer:
            return int(json.load(answer)["out_msgs"])

    def listed(self, *arguments: str) -> tuple[list[dict[str, Any]], str, int]:
        """What is listed, what is told beside it, and how many messages that took."""
        before = self.sent()
        done = self.project.runner("deadletter", "list", *arguments, "--output", "json")
        assert done.code == 0, done.stderr
        return json.loads(done.stdout), done.stderr, self.sent() - before


@pytest.fixture
async def stacks(make_project: Callable[..., Project], make_server: Callable[..., NatsServer]) -> Any:
    port = free_port()
    server = make_server(f'http: "127.0.0.1:{port}"')
    async with RawJetStream.connect(server.url) as js:
        await js.create("DEADLETTERS", ["deadletters.>"], allow_direct=True)
        for at in range(1, MANY + 1):
            function = "audit" if at % 100 == 0 else "charge"
            headers = {
                "Jetrunner-Dead-Reason": "crashed" if at in (3, 50, MANY - 5) else "exhausted",
                "Jetrunner-Dead-Function": function,
                "Jetrunner-Dead-Project": "shop",
                "Jetrunner-Dead-Stream": "ORDERS",
                "Jetrunner-Dead-Sequence": str(at),
            }
            subject = f"deadletters.shop.{function}"
            if at % 500:
                await js.client.publish(subject, b"{}", headers=headers)
            else:  # the server drops what it cannot store as fast as it comes
                await js.client.request(subject, b"{}", headers=headers, timeout=60)
        assert await js.count("DEADLETTERS") == MANY
        yield Stacks(make_project(nats=server.url), js, port)


async def test_the_newest_are_read_from_the_end(stacks: Stacks) -> None:
    found, told, read = stacks.listed()
    assert [letter["sequence"] for letter in found] == list(range(MANY - 49, MANY + 1))
    assert f"the newest 50 of {MANY:,}" in told
    assert read < READ_AT_MOST
    found, told, read = stacks.listed("--function", "audit", "--limit", "30")
    assert [letter["sequence"] for letter in found] == list(range(MANY - 2900, MANY + 1, 100))
    assert f"the newest 30 of {MANY // 100}" in told
    assert read < READ_AT_MOST
    found, told, read = stacks.listed("--reason", "exhausted", "--limit", "4")
    assert [letter["sequence"] for letter in found] == list(range(MANY - 3, MANY + 1))
    assert "the newest 4, and there are older ones" in told
    assert read < READ_AT_MOST
    ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    found, told, read = stacks.listed("--since", ago, "--limit", "7")
    assert [letter["sequence"] for letter in found] == list(range(MANY - 6, MANY + 1))
    assert read < READ_AT_MOST


async def test_a_rare_one_is_found_wherever_it_stands(stacks: Stacks) -> None:
    found, told, _ = stacks.listed("--reason", "crashed")
    assert [letter["sequence"] for letter in found] == [3, 50, MANY - 5]
    assert "older" not in told
    found, told, _ = stacks.listed("--reason", "crashed", "--limit", "2")
    assert [letter["sequence"] for letter in found] == [50, MANY - 5]
    assert "older ones" in told
    found, told, _ = stacks.listed("--reason", "crashed", "--limit", "3")
    assert ([letter["sequence"] for letter in found], "older" in told) == ([3, 50, MANY - 5], False)


async def test_gaps_and_everything(stacks: Stacks) -> None:
    await stacks.js.api("STREAM.PURGE.DEADLETTERS", {"filter": "deadletters.shop.charge", "seq": MANY})
    await stacks.js.api("STREAM.MSG.DELETE.DEADLETTERS", {"seq": MANY})
    found, _, _ = stacks.listed("--limit", "0")
    assert [letter["sequence"] for letter in found] == list(range(100, MANY, 100))
    assert [letter["sequence"] for letter in stacks.listed("--limit", "500")[0]] == list(
        range(100, MANY, 100)
    )
    assert [letter["sequence"] for letter in stacks.listed("--limit", "1")[0]] == [MANY - 100]
    assert stacks.listed("--since", "2100-01-01")[0] == []
