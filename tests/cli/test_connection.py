"""NATS that is down, refuses, or wants something else: exit 3, one sentence, one hint, no secret."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.eventually import until
from tests.support.project import Project
from tests.support.server import NatsServer, binary

pytestmark = pytest.mark.server

CHARGE = """
    from runner import consume

    @consume("orders.created")
    async def charge(body: bytes) -> None: ...
"""
COMMANDS = [
    ("publish", "orders.created", "x"),
    ("run",),
    ("status",),
    ("deadletter", "list"),
    ("check", "--nats-url", "nats://127.0.0.1:1"),
    ("dev",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_server_that_is_down_is_exit_3(
    make_project: Callable[..., Project], command: tuple[str, ...]
) -> None:
    streams = {"orders": 'name = "ORDERS"\nsubjects = ["orders.*"]\n'}
    project = make_project(functions={"charge": CHARGE}, streams=streams, nats="nats://127.0.0.1:1")
    done = project.runner(*command)
    assert (done.code, done.stdout) == (3, "")
    assert "error: cannot reach NATS at nats://127.0.0.1:1" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_password_is_exit_3_and_is_not_shown(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer]
) -> None:
    server = make_server("authorization { user: ada, password: secret }")
    project = make_project(functions={"charge": CHARGE}, nats=server.url_as("ada", "hunter2"))
    for command in (("publish", "orders.created", "x"), ("run",)):
        done = project.runner(*command)
        assert done.code == 3
        assert "refused the credentials" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout
    assert make_project(nats=server.url_as("ada", "secret")).runner("status").code == 0


def test_tls_with_an_authority_that_is_not_known_is_exit_3(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer], certificates: Certificates
) -> None:
    server = make_server(certificates.config())
    project = make_project(nats=server.url)
    done = project.runner("status")
    assert done.code == 3
    assert "TLS" in done.stderr
    assert project.runner("status", "--nats-tls-ca", str(certificates.ca)).code == 0


def test_a_certificate_that_is_asked_for_and_not_given_is_exit_3(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer], certificates: Certificates
) -> None:
    server = make_server(certificates.config(verify=True, first=True))
    project = make_project(nats=server.url)
    trust = ("--nats-tls-ca", str(certificates.ca), "--nats-tls-first")
    assert project.runner("status", *trust).code == 3
    client = ("--nats-tls-cert", str(certificates.client), "--nats-tls-key", str(certificates.client_key))
    assert project.runner("status", *trust, *client).code == 0


def test_a_missing_tls_file_is_wrong_usage(make_project: Callable[..., Project], tmp_path: Path) -> None:
    done = make_project().runner("status", "--nats-tls-ca", str(tmp_path / "none.pem"))
    assert done.code == 2
    assert "error: TLS files cannot be used" in done.stderr


def test_a_server_without_jetstream_is_told_so(make_project: Callable[..., Project], tmp_path: Path) -> None:
    command = [binary(), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(tmp_path)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        (file,) = until(lambda: list(tmp_path.glob("*.ports")))
        url = until(lambda: json.loads(file.read_text())["nats"][0])
        done = make_project(nats=url).runner("status")
        assert done.code == 1
        assert "error: JetStream is not enabled" in done.stderr
    finally:
        server.kill()
        server.wait()


def test_a_command_finds_the_server_of_a_running_dev(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project()
    (project.root / ".jetrunner").mkdir()
    (project.root / ".jetrunner" / "nats-url").write_text(nats_server.url + "\n")
    assert project.runner("status").code == 0
    done = project.runner("status", NATS_URL="nats://127.0.0.1:1")
    assert (done.code, "nats://127.0.0.1:1" in done.stderr) == (3, True)
    nats_server.stop()
    done = project.runner("status", "--nats-url", "nats://127.0.0.1:1")
    assert done.code == 3
