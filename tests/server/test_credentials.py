"""Credentials that are renewed in their files while we run: read again, without a message or a handler lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nkeys  # type: ignore[import-untyped]
import pytest

import runner
from runner.config import Settings
from runner.errors import SettingsError
from runner.jetstream import credentialrefusals
from runner.jetstream.connection import Connection, connect
from tests.server.conftest import Connects, reload
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.operator import Key, Operator
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WORK = """
    import asyncio
    import os

    from msgspec import Struct
    from runner import consume
    from journal import note

    class Job(Struct):
        id: int

    @consume("jobs.{id}", output="done.{id}", timeout=60.0)
    async def work(job: Job) -> Job:
        note("start", id=job.id)
        while job.id == 1 and not os.path.exists("go"):
            await asyncio.sleep(0.02)
        note("end", id=job.id)
        return job
"""


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def server(operator: Operator, make_server: Callable[..., NatsServer]) -> NatsServer:
    return make_server(operator.config)


@asynccontextmanager
async def administering(operator: Operator, server: NatsServer, folder: Path) -> AsyncIterator[RawJetStream]:
    """A connection of another user of the account, whose credentials do not end."""
    operator.write_creds(folder / "admin.creds")
    client = await nats.connect(server.url, user_credentials=str(folder / "admin.creds"))
    try:
        js = RawJetStream(client)
        await js.create("JOBS", ["jobs.>"])
        await js.create("DONE", ["done.>"])
        yield js
    finally:
        await client.close()


@pytest.fixture(params=["fast", "plain"])
def settings(request: pytest.FixtureRequest, server: NatsServer, tmp_path: Path) -> Settings:
    return Settings(nats_url=server.url, nats_creds=str(tmp_path / "app.creds"), wire=request.param)


async def test_credentials_that_are_renewed_before_they_end_go_on_and_no_handler_is_cut(
    operator: Operator, server: NatsServer, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    creds, project = tmp_path / "app.creds", make_project(functions={"work": WORK})
    async with administering(operator, server, tmp_path) as js:
        operator.write_creds(creds, lasts=15)
        process = project.start("run", NATS_URL=server.url, NATS_CREDS=str(creds))
        await process.seen("ready")
        await js.publish("jobs.1", {"id": 1})
        await eventually(lambda: project.journal("start"))
        operator.write_creds(creds)
        await process.seen("authentication expired")
        await process.seen("connected again")
        (project.root / "go").touch()
        await js.publish("jobs.2", {"id": 2})
        await eventually(lambda: js.settled("JOBS", "shop-work"))
        assert [each["id"] for each in project.journal("start")] == [1, 2], "nothing was cut, or ran twice"
        assert sorted(each.json()["id"] for each in await js.messages("DONE")) == [1, 2]
        assert process.running


async def ended(connection: Connection) -> None:
    """Return once the server has ended the connection."""
    await eventually(lambda: not connection.is_connected)


async def test_credentials_that_are_renewed_late_or_half_written_are_waited_for(
    operator: Operator, settings: Settings
) -> None:
    creds = Path(settings.nats_creds or "")
    operator.write_creds(creds, lasts=4)
    async with connect(settings) as connection:
        await ended(connection)
        whole = creds.with_suffix(".whole")
        operator.write_creds(whole)
        good = whole.read_text()
        for text in (good[:40], "", good[:-100], "\xff", "-----BEGIN NATS USER JWT-----", None):
            await asyncio.to_thread(write, creds, text)
            await asyncio.sleep(0.3)  # a few attempts
            assert not connection.closed.is_set()
        await asyncio.to_thread(write, creds, good)
        await eventually(lambda: connection.is_connected)
        await connection.api("STREAM.NAMES")
        assert not connection.closed.is_set()


def write(file: Path, text: str | None) -> None:
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


async def test_credentials_that_nobody_renews_end_it_after_a_while_and_renewed_ones_get_as_long(
    operator: Operator, server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the fast wire: nats-py's own task fails with InvalidStateError where it is closed while it reconnects."""
    monkeypatch.setattr(credentialrefusals, "REFUSED_SECONDS", 4.0)
    creds = tmp_path / "app.creds"
    settings = Settings(nats_url=server.url, nats_creds=str(creds), wire="fast")
    operator.write_creds(creds, lasts=3)
    async with connect(settings) as connection:
        await ended(connection)
        await asyncio.sleep(0.5)
        Operator().write_creds(creds)  # of another operator: refused, too
        began = asyncio.get_running_loop().time()
        await asyncio.wait_for(connection.closed.wait(), 60)
        assert asyncio.get_running_loop().time() - began > 3.9


async def test_a_client_outside_of_functions_goes_on_with_renewed_credentials(
    operator: Operator, server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    creds = tmp_path / "app.creds"
    async with administering(operator, server, tmp_path) as js:
        operator.write_creds(creds, lasts=6)
        settings = Settings(nats_url=server.url, nats_creds=str(creds))
        async with runner.connect(settings=settings) as app:
            await app.publish("jobs.1", {"id": 1})
            operator.write_creds(creds)
            await eventually(lambda: app.connection.wire.epoch > 0 and app.connection.is_connected)
            await app.publish("jobs.2", {"id": 2})
        assert await js.count("JOBS") == 2


async def test_the_seed_of_an_nkey_that_is_replaced_counts_from_the_next_connection_on(
    make_server: Callable[..., NatsServer], tmp_path: Path
) -> None:
    first, second, file = Key(nkeys.PREFIX_BYTE_USER), Key(nkeys.PREFIX_BYTE_USER), tmp_path / "app.seed"
    users = "authorization {{ users: [ {{ nkey: {} }} ] }}"
    server = make_server(users.format(first.public))
    file.write_bytes(first.seed)
    async with connect(Settings(nats_url=server.url, nats_nkey=str(file))) as connection:
        file.write_bytes(second.seed)
        reload(server, users.format(second.public))
        await eventually(lambda: connection.wire.epoch > 0 and connection.is_connected)
        assert not connection.closed.is_set()


async def test_a_password_that_is_changed_in_a_context_counts_from_the_next_connection_on(
    make_server: Callable[..., NatsServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = "authorization {{ users: [ {{ user: app, password: {} }} ] }}"
    server = make_server(users.format("old"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    context = tmp_path / "nats" / "context" / "prod.json"
    context.parent.mkdir(parents=True)
    facts = {"url": server.url, "user": "app", "password": "old"}
    context.write_text(json.dumps(facts))
    settings = Settings(nats_url=server.url, nats_context="prod", nats_user="app", nats_password="old")
    async with connect(settings) as connection:
        context.write_text("{")
        reload(server, users.format("new"))
        await ended(connection)
        await asyncio.sleep(0.3)
        context.write_text(json.dumps({**facts, "password": "new"}))
        await eventually(lambda: connection.is_connected)


@pytest.mark.parametrize("text", ["", "no credentials", "-----BEGIN NATS USER JWT-----\nx\n"])
async def test_credentials_that_are_none_are_told_at_the_first_connection(
    server: NatsServer, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "app.creds"
    file.write_text(text)
    with pytest.raises(SettingsError, match="app.creds holds no JWT and seed"):
        async with connect(Settings(nats_url=server.url, nats_creds=str(file))):
            pass


async def test_what_else_the_server_says_ends_nothing_for_good(
    connected: Connects, make_server: Callable[..., NatsServer], caplog: pytest.LogCaptureFixture
) -> None:
    """It closes what it means to close; a client that is over a limit for a while is back after it."""
    server = make_server("max_connections: 10\nmax_subscriptions: 30")
    async with connected(server.url) as first, connected(server.url) as second:
        for number in range(40):
            await first.wire.subscribe(f"x.{number}", print)
        await first.api("INFO")
        assert "maximum subscriptions exceeded" in caplog.text
        assert first.wire.epoch == 0
        reload(server, "max_connections: 1\nmax_subscriptions: 30")
        await eventually(lambda: not (first.is_connected and second.is_connected))
        reload(server, "max_connections: 10\nmax_subscriptions: 30")
        for connection in (first, second):
            await eventually(lambda each=connection: each.is_connected)  # type: ignore[misc]
            await connection.api("INFO")
            assert not connection.closed.is_set()
