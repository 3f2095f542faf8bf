"""`runner dev` and its nats-server: its own, kept alive, found by other commands."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runner import devserver
from runner.errors import UsageError
from runner.process import devport, natsserver
from tests.support.dev import ORDERS, SHOP, arguments, descendants, started, version
from tests.support.eventually import until
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server


@pytest.fixture
def shop(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"shop": SHOP}, streams={"orders": ORDERS})


def test_it_runs_on_a_server_of_its_own_and_says_where(shop: Project) -> None:
    dev = started(shop)
    url = dev.stderr[0].split()[-1]
    assert re.fullmatch(r"dev NATS at nats://127\.0\.0\.1:\d+", dev.stderr[0])
    assert dev.stderr[1] == "dev publish: runner publish SUBJECT BODY"
    assert (shop.root / ".jetrunner" / "nats-url").read_text().strip() == url
    done = shop.runner("publish", "orders.ok", "x", "--nats-url", url)
    assert (done.code, done.stdout) == (0, "ORDERS:1\n")
    dev.line(r"✓  charge  ORDERS:1  attempt 1  \d+\.\d ms")
    dev.interrupt()
    assert dev.wait() == 0
    assert not (shop.root / ".jetrunner" / "nats-url").exists()


def test_what_was_stored_is_there_the_next_time(shop: Project) -> None:
    dev = started(shop)
    assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:1\n"
    dev.terminate()
    assert dev.wait() == 0
    started(shop)
    assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:2\n"


def test_a_reset_starts_over_on_the_same_port(shop: Project) -> None:
    dev = started(shop)
    url = dev.stderr[0].split()[-1]
    assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:1\n"
    refused = shop.runner("dev", "--reset")  # what runs is not touched
    assert (refused.code, "runs in this project already" in refused.stderr) == (2, True)
    assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:2\n"
    dev.terminate()
    assert dev.wait() == 0
    again = started(shop, "--reset")
    assert again.stderr[0].split()[-1] == url
    assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:1\n"


def test_a_reset_is_for_its_own_server_alone(shop: Project, nats_server: NatsServer) -> None:
    done = shop.runner("dev", "--reset", "--nats-url", nats_server.url)
    assert done.code == 2
    assert "error: --reset is for the server of `runner dev`" in done.stderr


def test_there_is_one_at_a_time(shop: Project) -> None:
    started(shop)
    done = shop.runner("dev")
    assert done.code == 2
    assert "error: `runner dev` runs in this project already" in done.stderr


def test_a_killed_one_leaves_no_server_behind(shop: Project) -> None:
    dev = started(shop)
    (old,) = (pid for pid in descendants(dev.pid) if "nats-server" in Path(arguments(pid)[0]).name)
    dev.kill()
    again = started(shop)
    assert not Path(f"/proc/{old}").exists()
    assert old not in descendants(again.pid)


def test_its_port_stays_the_projects(shop: Project) -> None:
    first = started(shop)
    url = first.stderr[0].split()[-1]
    first.interrupt()
    assert first.wait() == 0
    second = started(shop)
    assert second.stderr[0].split()[-1] == url
    (server,) = (pid for pid in descendants(second.pid) if "nats-server" in Path(arguments(pid)[0]).name)
    second.kill()
    until(lambda: not Path(f"/proc/{server}").exists())
    shutil.rmtree(shop.root / ".jetrunner")  # as `git clean` does
    assert started(shop).stderr[0].split()[-1] == url


def test_projects_have_ports_of_their_own(shop: Project, make_project: Callable[..., Project]) -> None:
    other = make_project(functions={"shop": SHOP}, streams={"orders": ORDERS})
    assert started(shop).stderr[0] != started(other).stderr[0]


def test_a_port_that_another_program_has_is_told_and_taken_again_later(shop: Project) -> None:
    first = started(shop)
    url = first.stderr[0].split()[-1]
    first.interrupt()
    assert first.wait() == 0
    with socket.create_server(("127.0.0.1", urlsplit(url).port or 0)):
        dev = started(shop)
        assert dev.stderr[0].startswith(f"dev another program has port {urlsplit(url).port}")
        assert dev.stderr[1].split()[-1] != url
        assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:1\n"
        dev.interrupt()
        assert dev.wait() == 0
    assert started(shop).stderr[0].split()[-1] == url


@pytest.mark.parametrize("text", ["", "x", "-1", "80", "70000", "4222\n4223"])
def test_a_file_that_names_no_port_is_passed_over(tmp_path: Path, text: str) -> None:
    port = devport.choose(tmp_path)
    (tmp_path / "port").write_text(text)
    assert devport.choose(tmp_path) == port
    assert (tmp_path / "port").read_text() == f"{port}\n"


def test_a_server_that_is_given_is_used(shop: Project, nats_server: NatsServer) -> None:
    dev = started(shop, "--nats-url", nats_server.url)
    assert dev.stderr[0] == f"dev NATS at {nats_server.url}"
    assert shop.runner("publish", "orders.ok", "x", "--nats-url", nats_server.url).stdout == "ORDERS:1\n"
    dev.line("✓  charge  ORDERS:1")
    assert not (shop.root / ".jetrunner").exists()


def test_without_a_nats_server_to_start_there_is_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no nats-server to start") as missing:
        natsserver.binary()
    assert "extra `dev`" in missing.value.hint


def test_outside_of_a_project_nothing_is_started(tmp_path: Path) -> None:
    for command in ("dev", "run", "check", "plan", "apply"):
        done = subprocess.run(
            [sys.executable, "-m", "runner", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert f"error: there is no project in {tmp_path}: it has no pyproject.toml" in done.stderr
        assert "hint: go into its folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_dies_is_started_again_with_what_it_stored(shop: Project) -> None:
    dev = started(shop)
    url = dev.stderr[0].split()[-1]
    assert version(shop) == 1
    (server,) = (pid for pid in descendants(dev.pid) if "nats-server" in Path(arguments(pid)[0]).name)
    os.kill(server, 9)
    dev.line("dev nats-server ended; it starts again")
    dev.line(f"dev nats-server is back at {re.escape(url)}")
    assert version(shop) == 1
    assert shop.runner("publish", "orders.ok", "x").stdout == "ORDERS:3\n"
    dev.interrupt()
    assert dev.wait() == 0


PUBLISHING = """
import asyncio, sys
import runner

async def main():
    async with runner.connect(**eval(sys.argv[1])) as app:
        ack = await app.publish("orders.ok", b"x")
        print(f"{ack.stream}:{ack.seq}")

asyncio.run(main())
"""
PUBLISHING_SYNC = """
import sys
import runner

with runner.connect_sync(**eval(sys.argv[1])) as app:
    ack = app.publish("orders.ok", b"x")
    print(f"{ack.stream}:{ack.seq}")
"""


def script(
    shop: Project, code: str, folder: Path, arguments: str = "{}", **environment: str
) -> subprocess.CompletedProcess[str]:
    """A program of the user's own, run in a folder."""
    return subprocess.run(
        [sys.executable, "-c", code, arguments],
        cwd=folder,
        env=shop.environment | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_program_of_the_projects_own_finds_it(shop: Project, nats_server: NatsServer) -> None:
    dev = started(shop)
    elsewhere = shop.root.parent
    done = script(shop, PUBLISHING, shop.root)
    assert (done.returncode, done.stdout) == (0, "ORDERS:1\n"), done.stderr
    assert script(shop, PUBLISHING, shop.root / "functions").stdout == "ORDERS:2\n"
    assert script(shop, PUBLISHING, elsewhere, f"dict(project={str(shop.root)!r})").stdout == "ORDERS:3\n"
    dev.line("✓  charge  ORDERS:3")
    for given, environment in (
        (f"dict(nats_url={nats_server.url!r})", {}),
        ("{}", {"NATS_URL": nats_server.url}),
    ):
        done = script(shop, PUBLISHING, shop.root, given, **environment)
        assert "NoStream: no stream captures orders.ok" in done.stderr


def test_a_program_without_a_loop_finds_it(shop: Project) -> None:
    dev = started(shop)
    done = script(shop, PUBLISHING_SYNC, shop.root / "functions")
    assert (done.returncode, done.stdout) == (0, "ORDERS:1\n"), done.stderr
    dev.line("✓  charge  ORDERS:1")


def test_a_handler_finds_it_too(shop: Project) -> None:
    shop.function(
        "more",
        """
        import runner
        from journal import note
        from runner import Context, consume, lifespan

        @lifespan
        async def app():
            async with runner.connect() as app:
                yield app

        @consume("orders.more")
        async def more(body: bytes, ctx: Context) -> None:
            note("more", seq=(await ctx.state.publish("orders.ok", b"x")).seq)
        """,
    )
    dev = started(shop)
    assert shop.runner("publish", "orders.more", "x").stdout == "ORDERS:1\n"
    dev.line("✓  more  ORDERS:1")
    assert shop.journal("more")[0]["seq"] == 2


def test_while_the_server_is_down_a_program_hears_whose_it_is(shop: Project) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    (shop.root / ".jetrunner").mkdir()
    with devserver.announced(shop.root, url):
        done = script(shop, PUBLISHING, shop.root)
    assert f"Unreachable: the nats-server of `runner dev` at {url} does not answer" in done.stderr


def test_while_the_server_is_down_commands_say_whose_it_is(shop: Project) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    (shop.root / ".jetrunner").mkdir()
    with devserver.announced(shop.root, url):
        done = shop.runner("publish", "orders.ok", "x")
    assert done.code == 3
    assert (
        f"error: the nats-server of `runner dev` at {url} does not answer\nhint: dev starts it" in done.stderr
    )
