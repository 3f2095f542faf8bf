"""ADR-32 of NATS: what an instance tells of itself, to any tool that knows services."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner import Reject, reply
from runner.core import service
from tests.services.conftest import Answering
from tests.support.asker import Asker, asking
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CLI = shutil.which("nats") or os.environ.get("NATS_CLI", "")


@reply("quotes.{customer}", idempotent=True)
async def quote(customer: str) -> str:
    if customer == "nobody":
        raise Reject("no customer")
    return customer


@reply("stock.>")
def stock() -> int:
    return 7


async def one(asker: Asker, subject: str) -> Any:
    return msgspec.json.decode((await asker.ask(subject)).body)


@pytest.mark.parametrize("verb", ["PING", "INFO", "STATS"])
async def test_a_question_is_answered_to_all_to_the_project_and_to_the_instance(
    answering: Answering, verb: str
) -> None:
    async with answering(quote, stock) as (_, asker):
        found = await one(asker, f"$SRV.{verb}")
        assert found["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
        assert (found["name"], found["version"]) == ("test", "0.0.0")
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", found["metadata"]["jetrunner"])
        assert found["metadata"]["weight"] == "1"
        for subject in (f"$SRV.{verb}.test", f"$SRV.{verb}.test.{found['id']}"):
            assert (await one(asker, subject))["id"] == found["id"]


async def test_the_endpoints_are_the_functions(answering: Answering) -> None:
    async with answering(quote, stock) as (_, asker):
        info = await one(asker, "$SRV.INFO")
        assert (info["description"], "gone" in info) == ("", False)
        assert info["endpoints"] == [
            {"name": "quote", "subject": "quotes.*", "queue_group": "q", "metadata": {"idempotent": "true"}},
            {"name": "stock", "subject": "stock.>", "queue_group": "q", "metadata": {"idempotent": "false"}},
        ]
        assert service.read_info(msgspec.json.encode(info)).ours


async def test_statistics_are_integers_and_texts(answering: Answering) -> None:
    async with answering(quote, stock) as (_, asker):
        before = (await one(asker, "$SRV.STATS"))["endpoints"][0]
        assert before["last_error"] == ""
        for customer in ("ada", "nobody", "ben"):
            await asker.ask(f"quotes.{customer}")
        stats = await one(asker, "$SRV.STATS")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", stats["started"])
        quoted = stats["endpoints"][0]
        assert (quoted["num_requests"], quoted["num_errors"]) == (3, 1)
        assert quoted["last_error"] == "422: no customer"
        for key in ("processing_time", "average_processing_time"):
            assert type(quoted[key]) is int
        assert quoted["average_processing_time"] == quoted["processing_time"] // 3


async def test_an_instance_is_asked_by_its_own_subject(answering: Answering) -> None:
    async with answering(quote, stock) as (_, asker):
        instance = (await one(asker, "$SRV.PING"))["id"]

        def own(subject: str) -> str:
            return service.instance_subject("test", instance, subject)

        assert (await asker.ask(own("quotes.ada"))).body == b"ada"
        assert (await asker.ask(own("stock.a.b.c"))).body == b"7"
        for unknown in ("quotes", "quotes.a.b", "stock", "other.x", "$JS.API.INFO", "x" * 2_000):
            answer = await asker.ask(own(unknown))
            assert (answer.code, answer.not_started) == (404, "unknown")


SOURCE = """
    from runner import Reject, reply

    @reply("quotes.{customer}", idempotent=True)
    async def quote(customer: str) -> str:
        if customer == "nobody":
            raise Reject("no customer")
        return customer
"""


async def test_news_tell_that_an_instance_comes_and_goes(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"shop": SOURCE}, nats=nats_server.url)
    async with asking(nats_server.url) as asker:
        await asker.subscribe(service.NEWS)
        process = project.start("run", "--weight", "0.25")
        await process.seen("ready: quote")
        came = service.read_info((await asker.answers.get()).body)
        assert (came.name, came.weight, came.gone, came.ours) == ("shop", 0.25, False, True)
        assert [(each.name, each.idempotent) for each in came.endpoints] == [("quote", True)]
        process.terminate()
        gone = service.read_info((await asker.answers.get()).body)
        assert (gone.id, gone.gone) == (came.id, True)
        assert await process.ended() == 0


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "1001", "heavy"])
def test_a_weight_is_a_number_over_0(make_project: Callable[..., Project], weight: str) -> None:
    done = make_project(functions={"shop": SOURCE}).runner("run", "--weight", weight)
    assert done.code == 2
    assert "a number over 0 is expected" in done.stderr


@pytest.mark.skipif(not CLI, reason="no `nats` on PATH nor in NATS_CLI: the real command was not tried")
async def test_the_nats_command_reads_it(
    make_project: Callable[..., Project], nats_server: NatsServer, tmp_path: Path
) -> None:
    project = make_project(functions={"shop": SOURCE}, nats=nats_server.url)
    (project.root / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1.2rc1"\n')
    processes = [project.start("run") for _ in range(2)]
    for process in processes:
        await process.seen("ready: ")

    def micro(*arguments: str) -> str:
        done = subprocess.run(
            [CLI, "--server", nats_server.url, "micro", *arguments],
            env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    async with asking(nats_server.url) as asker:
        for customer in ("ada", "nobody"):
            await asker.ask(f"quotes.{customer}")
    listed = micro("ls")
    assert "shop" in listed
    assert "1.2.0-rc1" in listed
    found = json.loads(micro("info", "shop", "--json"))
    told = found if isinstance(found, dict) else found[0]
    assert "quotes.*" in json.dumps(told)
    assert "quotes.*" in micro("info", "shop")
    assert "quote" in micro("stats", "shop")
    assert micro("ping", "shop").count("shop") >= 2
