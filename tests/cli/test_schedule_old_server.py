"""A nats-server that is too old for schedules is one clear error, in each command that needs them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server

OLD = Path(
    os.environ.get("NATS_SERVER_OLD", Path(__file__).parents[2] / "build/nats-server/2.12/bin/nats-server")
)
SHOP = """
    from runner import Context, cron

    @cron("@daily")
    async def nightly(ctx: Context) -> None: ...
"""


@pytest.fixture
def project(
    make_project: Callable[..., Project],
    make_server: Callable[..., NatsServer],
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    if not OLD.exists():
        pytest.skip(
            f"{OLD} is not there: @cron was not tried on a server that is too old (`just test-servers` gets it)"
        )
    monkeypatch.setenv("NATS_SERVER_BIN", str(OLD))
    return make_project(functions={"shop": SHOP}, nats=make_server().url)


@pytest.mark.parametrize(
    "command", [("run",), ("plan",), ("apply",), ("schedule", "list"), ("schedule", "fire", "nightly")]
)
def test_it_is_one_error_that_says_what_to_do(project: Project, command: tuple[str, ...]) -> None:
    done = project.runner(*command)
    assert (done.code, done.stdout) == (1, "")
    assert "is too old: @cron (nightly) needs 2.14" in done.stderr
    assert done.stderr.count("error:") == 1
    assert "hint: upgrade nats-server to 2.14 or newer" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_against_it_says_so_too(project: Project) -> None:
    done = project.runner("check", "--nats-url", project.environment["NATS_URL"])
    assert (done.code, "is too old: @cron (nightly) needs 2.14" in done.stderr) == (1, True), done.stderr


def test_everything_else_works_on_it(project: Project) -> None:
    assert project.runner("status").code == 0
    project.function("shop", SHOP.replace('@cron("@daily")', ""))
    assert project.runner("apply").code == 0
    assert project.json("schedule", "list")["schedules"] == []
