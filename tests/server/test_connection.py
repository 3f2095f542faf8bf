"""Connecting to a real server: what is wrong is told in a sentence, what passes is waited out, what is final ends."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from runner.config import Settings
from runner.errors import JetrunnerError, SettingsError, TooLarge, Unreachable
from runner.jetstream.connection import connect, descriptor
from runner.jetstream.reader import abort
from runner.jetstream.server import check_server
from tests.server.conftest import Connects, reload
from tests.support.certificates import Certificates
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.proxy import Proxy
from tests.support.server import NatsServer, binary

pytestmark = [pytest.mark.server, pytest.mark.anyio]

USERS = "authorization { users: [ {user: admin, password: a}, {user: app, password: %s} ] }"


async def refusal(settings: Settings, patience: float = 5) -> JetrunnerError:
    """The error that connecting ends with."""
    with pytest.raises(JetrunnerError) as caught:
        async with connect(settings, patience=patience):
            pass
    return caught.value


async def test_a_server_that_is_not_there_is_unreachable_after_our_patience() -> None:
    port = free_port()
    error = await refusal(Settings(nats_url=f"nats://ada:secret@127.0.0.1:{port}"), patience=0.3)
    assert isinstance(error, Unreachable)
    assert error.exit_code == 3
    assert "cannot reach NATS at nats://" in str(error)
    assert f"127.0.0.1:{port}" in str(error)
    assert "secret" not in str(error) + error.hint
    assert "--nats-url" in error.hint


async def test_a_server_that_comes_late_is_waited_for(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    port = free_port()
    starting = asyncio.create_task(asyncio.to_thread(lambda: make_server(port=port)))
    async with connected(f"nats://127.0.0.1:{port}") as connection:
        await check_server(connection)
    await starting


async def test_a_server_that_stands_still_at_the_first_connection_is_waited_for_four_times_as_long(
    nats_server: NatsServer,
) -> None:
    async with Proxy.to(nats_server.port) as proxy:
        proxy.freeze()
        began = time.monotonic()
        assert isinstance(await refusal(Settings(nats_url=proxy.url), patience=0.2), Unreachable)
        assert time.monotonic() - began >= 0.8
        asyncio.get_running_loop().call_later(3.0, proxy.thaw)
        async with connect(Settings(nats_url=proxy.url), patience=2.0) as connection:
            await check_server(connection)


@pytest.mark.parametrize("url", ["nats://app:wrong@", "nats://somebody:b@", "nats://", "nats://token@"])
async def test_wrong_credentials_are_told_at_once_and_never_shown(
    make_server: Callable[..., NatsServer], url: str
) -> None:
    server = make_server(USERS % "b")
    async with asyncio.timeout(60):
        error = await refusal(Settings(nats_url=f"{url}127.0.0.1:{server.port}"), patience=60)
    assert isinstance(error, Unreachable)
    assert "refused the credentials" in str(error)
    assert "wrong" not in str(error)
    assert "token" not in str(error)


@pytest.mark.parametrize(
    "url", ["nats://app:se#cret@", "nats://app:se/cret@", "nats://app:12#cret@", "nats://app:se?cret@"]
)
async def test_a_url_that_cannot_be_read_is_told_without_its_password(
    nats_server: NatsServer, url: str
) -> None:
    error = await refusal(Settings(nats_url=f"{url}127.0.0.1:{nats_server.port}"))
    assert isinstance(error, SettingsError)
    assert "cret" not in str(error)
    assert "'se'" not in str(error)
    assert "NATS_PASSWORD" in error.hint


async def test_a_seed_that_is_none_is_told_and_never_shown(nats_server: NatsServer, tmp_path: Path) -> None:
    seed = tmp_path / "seed.nk"
    seed.write_text("SUABADSEED")
    error = await refusal(Settings(nats_url=nats_server.url, nats_nkey=str(seed)))
    assert isinstance(error, JetrunnerError)
    assert "BADSEED" not in str(error)
    assert "seed" in error.hint


async def test_right_credentials_come_from_the_url_or_the_settings(
    make_server: Callable[..., NatsServer],
) -> None:
    server = make_server(USERS % "b")
    for settings in (
        Settings(nats_url=server.url_as("app", "b")),
        Settings(nats_url=server.url, nats_user="app", nats_password="b"),
    ):
        async with connect(settings) as connection:
            await check_server(connection)
            assert "b@" not in connection.url


@pytest.mark.parametrize("password", ["p@ss/w:rd#?[", "100%", "a+b c", "pässwört", "%40"])
async def test_a_user_and_a_password_may_be_escaped_in_the_url(
    make_server: Callable[..., NatsServer], password: str
) -> None:
    server = make_server(f'authorization {{ users: [ {{user: "a@b", password: "{password}"}} ] }}')
    url = f"nats://a%40b:{quote(password, safe='')}@127.0.0.1:{server.port}"
    async with connect(Settings(nats_url=url)) as connection:
        await check_server(connection)
        assert "***@" in connection.url


async def test_a_token_may_be_escaped_in_the_url(make_server: Callable[..., NatsServer]) -> None:
    server = make_server('authorization { token: "t/k@n" }')
    async with connect(Settings(nats_url=f"nats://t%2Fk%40n@127.0.0.1:{server.port}")) as connection:
        await check_server(connection)


async def test_each_of_several_urls_has_its_own_credentials_and_one_without_those_of_the_first(
    make_server: Callable[..., NatsServer],
) -> None:
    first = make_server('authorization { users: [ {user: a, password: "p@1"} ] }')
    second = make_server('authorization { users: [ {user: b, password: "p@2"} ] }')
    third = make_server('authorization { users: [ {user: a, password: "p@1"} ] }')
    one = f"nats://a:p%401@127.0.0.1:{first.port}"
    first.stop()
    for others in (f"nats://b:p%402@127.0.0.1:{second.port}", f"nats://127.0.0.1:{third.port}"):
        async with connect(Settings(nats_url=f"{one},{others}"), patience=60) as connection:
            await check_server(connection)


async def test_credentials_of_the_settings_go_before_those_of_the_url(
    make_server: Callable[..., NatsServer],
) -> None:
    server = make_server(USERS % "b")
    url = server.url_as("token", "x%40")
    async with connect(Settings(nats_url=url, nats_user="app", nats_password="b")) as connection:
        await check_server(connection)


async def test_urls_of_a_token_and_of_a_user_are_refused_and_so_is_what_is_no_text() -> None:
    both = await refusal(Settings(nats_url="nats://tok@127.0.0.1:1,nats://app:secret@127.0.0.1:2"))
    assert "token" in str(both)
    assert "secret" not in str(both) + both.hint
    torn = await refusal(Settings(nats_url="nats://app:se%ffcret@127.0.0.1:1"))
    assert isinstance(torn, SettingsError)
    assert "cret" not in str(torn) + torn.hint


async def test_tls_connects_with_the_right_authority_alone(
    make_server: Callable[..., NatsServer], certificates: Certificates, tmp_path: Path
) -> None:
    server = make_server(certificates.config())
    trusted = Settings(nats_url=server.url, nats_tls_ca=str(certificates.ca))
    async with connect(trusted) as connection:
        await check_server(connection)
    async with asyncio.timeout(60):
        error = await refusal(Settings(nats_url=server.url.replace("nats:", "tls:")), patience=60)
    assert "refused TLS" in str(error)
    assert "nats_tls_ca" in error.hint
    missing = Settings(nats_url=server.url, nats_tls_ca=str(tmp_path / "none.pem"))
    assert isinstance(await refusal(missing), SettingsError)


@pytest.mark.parametrize("first", [False, True], ids=["after-info", "first"])
async def test_a_client_certificate_is_shown_to_a_server_that_asks(
    make_server: Callable[..., NatsServer], certificates: Certificates, first: bool
) -> None:
    server = make_server(certificates.config(verify=True, first=first))
    settings = Settings(
        nats_url=server.url,
        nats_tls_ca=str(certificates.ca),
        nats_tls_cert=str(certificates.client),
        nats_tls_key=str(certificates.client_key),
        nats_tls_first=first,
    )
    async with connect(settings, patience=60) as connection:
        await check_server(connection)


async def test_a_server_without_jetstream_is_told_in_a_sentence(nats_server: NatsServer) -> None:
    nats_server.stop()
    plain = await without_jetstream(nats_server)
    try:
        async with connect(Settings(nats_url=nats_server.url), patience=60) as connection:
            with pytest.raises(JetrunnerError, match="JetStream is not enabled at nats://127") as caught:
                await check_server(connection)
            assert "-js" in caught.value.hint
    finally:
        plain.kill()
        await plain.wait()


async def without_jetstream(server: NatsServer) -> asyncio.subprocess.Process:
    """A nats-server on the same port that stores nothing."""
    return await asyncio.create_subprocess_exec(
        binary(), "-a", "127.0.0.1", "-p", str(server.port), stderr=asyncio.subprocess.DEVNULL
    )


@asynccontextmanager
async def claiming(server: NatsServer, version: bytes) -> AsyncIterator[str]:
    """The server behind a face that names another version."""
    real = server_version(server)
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", server.port)
        opened.extend((writer, upstream_writer))
        info = await upstream_reader.readline()
        writer.write(info.replace(b'"version":"%b"' % real, b'"version":"%b"' % version))
        with suppress(OSError):
            await asyncio.gather(pour(reader, upstream_writer), pour(upstream_reader, writer))

    face = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with face:
        yield f"nats://127.0.0.1:{face.sockets[0].getsockname()[1]}"
        for each in opened:
            each.close()
            with suppress(OSError):
                await each.wait_closed()


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on every byte until there are no more."""
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


def server_version(server: NatsServer) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port)) as probe:
        info = probe.recv(65536)
    return info.split(b'"version":"')[1].split(b'"')[0]


async def test_an_old_server_is_told_what_is_missing(nats_server: NatsServer) -> None:
    async with (
        claiming(nats_server, b"2.9.99") as url,
        connect(Settings(nats_url=url), patience=60) as connection,
    ):
        with pytest.raises(JetrunnerError, match=r"nats-server 2\.9\.99 is too old") as caught:
            await check_server(connection)
        assert "2.12" in caught.value.hint


async def test_it_connects_again_for_as_long_as_it_takes_and_says_so_once(
    connected: Connects, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as connection:
        await asyncio.to_thread(nats_server.kill)
        await eventually(lambda: not connection.is_connected)
        await asyncio.sleep(1.5)  # a dozen attempts
        await asyncio.to_thread(nats_server.start)
        await eventually(lambda: connection.is_connected)
        await check_server(connection)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) <= 5, lines
    assert any("lost; reconnecting" in line for line in lines)


async def test_a_frozen_connection_is_given_up_after_its_pings_and_comes_back(
    connected: Connects, nats_server: NatsServer
) -> None:
    async with Proxy.to(nats_server.port) as proxy, connected(proxy.url) as connection:
        connection.client.options["ping_interval"] = 0.2  # of the next connection
        await proxy.cut()
        await eventually(lambda: proxy.connections >= 2 and connection.is_connected)
        epoch = connection.wire.epoch
        proxy.freeze()
        for _ in range(16):  # more than the kernel takes: what waits to be written must not hold it up
            connection.wire.publish(b"n", b"x" * 500_000, b"")
        await eventually(lambda: connection.wire.epoch > epoch)
        connection.client.options["ping_interval"] = 30  # the next connection need not hurry
        proxy.thaw()
        await eventually(lambda: connection.is_connected)
        await check_server(connection)


async def test_a_user_that_is_revoked_is_told_that_it_is_over(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server(USERS % "b")
    async with connected(server.url_as("app", "b")) as connection:
        reload(server, USERS % "other")
        await asyncio.wait_for(connection.closed.wait(), 60)


async def test_credentials_that_changed_during_an_outage_are_tried_until_they_fit_again(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server(USERS % "b")
    async with connected(server.url_as("app", "b")) as connection:
        server.kill()
        await asyncio.to_thread(server.start, USERS % "other")
        await asyncio.sleep(0.5)
        assert not connection.is_connected
        server.kill()
        await asyncio.to_thread(server.start, USERS % "b")
        await eventually(lambda: connection.is_connected)
        await check_server(connection)
        assert not connection.closed.is_set()


async def test_a_lowered_max_payload_counts_from_the_next_connection_on(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server("max_payload: 100000")
    async with RawJetStream.connect(server.url) as js, connected(server.url) as connection:
        await js.create("PAID", ["paid.>"])
        await connection.publisher.publish("paid.1", b"x" * 50_000)
        server.kill()
        await asyncio.to_thread(server.start, "max_payload: 10000")
        await eventually(lambda: connection.is_connected and connection.max_payload == 10_000)
        with pytest.raises(TooLarge):
            await connection.publisher.publish("paid.1", b"x" * 50_000)
        await connection.publisher.publish("paid.1", b"x" * 9_000)
        assert not connection.closed.is_set()


async def test_a_frozen_server_does_not_hold_up_the_end(connected: Connects, nats_server: NatsServer) -> None:
    async with asyncio.timeout(60):
        async with connected(nats_server.url) as connection:
            nats_server.freeze()
            for _ in range(16):
                connection.wire.publish(b"n", b"x" * 500_000, b"")
    nats_server.thaw()


async def test_a_connection_that_is_lost_while_it_subscribes_again_comes_back(
    connected: Connects, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy.to(nats_server.port) as proxy, connected(proxy.url) as connection:
        client = connection.client
        greet, lost = client._process_connect_init, 0

        async def greeted_and_lost() -> None:
            nonlocal lost
            await greet()
            if not lost:
                lost += 1
                abort(client)
                await eventually(lambda: descriptor(client) == -1)

        monkeypatch.setattr(client, "_process_connect_init", greeted_and_lost)
        await proxy.cut()
        await eventually(lambda: lost == 1 and proxy.connections >= 3 and connection.is_connected)
        await check_server(connection)


@pytest.mark.parametrize("refuse", [False, True], ids=["taken", "refused"])
async def test_a_connection_that_is_closed_while_it_connects_again_stays_closed(
    connected: Connects, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, refuse: bool
) -> None:
    """Python 3.11's `wait_for`, in which nats-py connects, drops a cancel in whose moment the wait has ended."""
    async with Proxy.to(nats_server.port) as proxy:
        async with connected(proxy.url) as connection:
            client = connection.client
            connects, begun, cancelled = client._connect_to_server, asyncio.Event(), 0

            async def drops_a_cancel(server: Any) -> None:
                nonlocal cancelled
                begun.set()
                try:
                    await asyncio.sleep(5)
                except asyncio.CancelledError:
                    cancelled += 1
                    if cancelled > 3:
                        raise
                await connects(server)

            monkeypatch.setattr(client, "_connect_to_server", drops_a_cancel)
            await proxy.cut(refuse=refuse)
            await begun.wait()
            await client._send_command(b"PING\r\n")  # has not left yet
        assert cancelled
        assert client.is_closed
        assert not [task for task in asyncio.all_tasks() if "Client." in repr(task.get_coro())]
        assert not proxy.open
