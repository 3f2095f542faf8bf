"""`runner request`: what is asked, what is printed, and what is told of errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
    from runner import Context, Reject, reply

    @reply("greet.{name}")
    async def greet(words: dict | None, name: str, ctx: Context) -> dict:
        if name == "nobody":
            raise Reject("no such name")
        return {"hello": name, "said": words, "tenant": ctx.headers.get("Tenant")}

    @reply("raw")
    async def raw() -> bytes:
        return b"\\xffbytes"

    @reply("none")
    async def none() -> None:
        return None
"""


@pytest.fixture
async def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    project = make_project(functions={"shop": SOURCE}, nats=nats_server.url)
    await project.start("run").seen("ready: ")
    return project


async def test_the_answer_is_printed_as_it_is(project: Project) -> None:
    done = await asyncio.to_thread(project.runner, "request", "greet.ada", '{"a": 1}', "-H", "Tenant: acme")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == '{"hello":"ada","said":{"a":1},"tenant":"acme"}\n'


async def test_a_body_comes_from_a_file_or_from_standard_input(project: Project) -> None:
    (project.root / "words.json").write_text('"hi"')
    by_file = await asyncio.to_thread(project.runner, "request", "greet.ada", "--file", "words.json")
    assert '"said":"hi"' not in by_file.stdout  # it is no dict
    assert by_file.code == 1
    piped = await asyncio.to_thread(project.runner, "request", "greet.ada", "-", stdin='{"b": 2}')
    assert '"said":{"b":2}' in piped.stdout


async def test_json_tells_body_and_time_of_each_answer(project: Project) -> None:
    done = await asyncio.to_thread(project.json, "request", "greet.ada", "{}")
    assert done["body"] == {"hello": "ada", "said": {}, "tenant": None}
    assert 0 < done["milliseconds"] < 60_000
    assert (await asyncio.to_thread(project.json, "request", "none"))["body"] is None
    assert (await asyncio.to_thread(project.json, "request", "raw"))["body"] == "\\xffbytes"


async def test_it_asks_as_often_as_it_is_told(project: Project) -> None:
    done = await asyncio.to_thread(
        project.runner, "request", "greet.ada", "{}", "--count", "3", "--policy", "random"
    )
    assert len(done.stdout.splitlines()) == 3


async def test_an_error_is_told_with_its_code(project: Project) -> None:
    done = await asyncio.to_thread(project.runner, "request", "greet.nobody", "{}")
    assert (done.code, done.stdout, done.stderr) == (1, "", "error: 422: no such name\n")


async def test_where_nobody_answers_it_says_what_to_do(project: Project) -> None:
    done = await asyncio.to_thread(project.runner, "request", "nobody.here", "{}")
    assert done.code == 1
    assert done.stderr.splitlines()[0] == "error: nobody answers on nobody.here"
    assert done.stderr.splitlines()[1].startswith("hint: start a function with @reply on nobody.here")


@pytest.mark.parametrize("asked", ["a.*", "a b", "a.{b}", ""])
async def test_what_is_no_subject_is_a_wrong_usage(project: Project, asked: str) -> None:
    done = await asyncio.to_thread(project.runner, "request", asked, "{}")
    assert done.code == 2
    assert done.stderr.startswith("error: cannot ask ")


@pytest.mark.parametrize("timeout", ["0", "-1", "inf", "nan"])
async def test_what_is_no_timeout_is_a_wrong_usage(project: Project, timeout: str) -> None:
    done = await asyncio.to_thread(project.runner, "request", "greet.ada", "{}", f"--timeout={timeout}")
    assert done.code == 2
    assert done.stderr.startswith(f"error: timeout={float(timeout)} is not a number of seconds above 0")
