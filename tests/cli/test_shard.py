"""`runner shard list` and `resize`: what they print, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server

LEDGER = """
    import anyio
    from pathlib import Path
    from runner import consume

    @consume("ledger.{account}.posted", ordered_by="account")
    async def post(body: bytes) -> None:
        while body == b"slow" and not Path("go").exists():
            await anyio.sleep(0.01)
"""
SHARDED = 'name = "LEDGER"\nsubjects = ["ledger.{account}.posted"]\n[shards]\ncount = 4\nby = ["account"]\n'


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    project = make_project(functions={"ledger": LEDGER}, streams={"ledger": SHARDED}, nats=nats_server.url)
    applied = project.runner("apply")
    assert applied.code == 0, applied.stderr
    return project


def shards(project: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = project.json("shard", "list")["shards"]
    return found


async def durables(js: RawJetStream, count: int) -> bool:
    return len(await js.consumers("LEDGER")) == count


async def test_the_list_tells_owners_and_what_waits(project: Project, js: RawJetStream) -> None:
    assert shards(project) == []
    assert "no function of shop that keeps order has run yet" in project.runner("shard", "list").stderr
    runner = project.start("run")

    def owned() -> list[dict[str, Any]]:
        found = shards(project)
        assert len(found) == 4
        assert all(shard["alive"] for shard in found)
        return found

    found = await eventually(owned)
    assert [(shard["function"], shard["stream"], shard["generation"], shard["shard"]) for shard in found] == [
        ("post", "LEDGER", 1, number) for number in range(4)
    ]
    assert len({shard["owner"] for shard in found}) == 1
    assert all(shard["epoch"] == 1 and datetime.fromisoformat(shard["since"]).tzinfo for shard in found)
    for _ in range(3):
        await js.publish("ledger.a.posted", b"slow")

    def waits() -> bool:
        return sum(int(shard["lag"] + shard["pending"]) for shard in shards(project)) == 3

    await eventually(waits)
    heads = ["FUNCTION", "STREAM", "GENERATION", "SHARD", "OWNER", "EPOCH", "LAG", "PENDING", "SINCE"]

    def listed() -> bool:  # an owner that stands still for a second is told of, too
        lines = [line.split() for line in project.runner("shard", "list", "post").stdout.splitlines()]
        return lines[0] == heads and [*map(len, lines[1:])] == [len(heads)] * 4

    await eventually(listed)
    runner.kill()
    await eventually(lambda: "(gone)" in project.runner("shard", "list").stdout)


async def test_a_function_without_shards_is_told_apart_from_one_that_waits(project: Project) -> None:
    done = project.runner("shard", "list", "nothing")
    assert (done.code, "nothing has no shards" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("LEDGER", "0"), 2, "0 is not in the range 1<=x<=1024"),
        (("LEDGER", "many"), 2, "is not a valid integer"),
        (("8", "LEDGER"), 2, "the stream comes first: runner shard resize LEDGER 8"),
        (("NOWHERE", "8"), 2, "there is no stream NOWHERE"),
        (("PLAIN", "8"), 2, "PLAIN is not sharded"),
    ],
)
async def test_a_resize_that_cannot_be_says_why(
    project: Project, js: RawJetStream, arguments: tuple[str, ...], code: int, reason: str
) -> None:
    await js.create("PLAIN", ["plain"])
    done = project.runner("shard", "resize", *arguments)
    assert (done.code, done.stdout) == (code, "")
    assert reason in done.stderr


async def test_a_resize_tells_its_progress_and_what_to_write_into_the_file(
    project: Project, js: RawJetStream
) -> None:
    runner = project.start("run")
    await eventually(lambda: len(shards(project)) == 4)
    for number in range(5):
        await js.publish(f"ledger.a{number}.posted", b"slow")
    resize = project.start("shard", "resize", "LEDGER", "8")
    await resize.seen(r"^LEDGER: 4 → 8 shards, generation 2$")
    await resize.seen(r"^post: drains generation 1, 5 messages left$")
    other = project.runner("shard", "resize", "LEDGER", "16")
    assert other.code == 1
    assert "LEDGER is still on its way to 8 shards: post has 5 messages left" in other.stderr
    assert "runner shard resize LEDGER 8 shows how far it is" in other.stderr
    (project.root / "go").touch()
    assert await resize.ended() == 0
    assert resize.stdout == []
    assert "post: works on generation 2" in resize.stderr
    assert any("set count = 8 under [shards] in streams/ledger.toml" in line for line in resize.stderr)
    plan = project.json("plan", code=1)["streams"][0]
    assert (plan["action"], plan["changes"][0]["field"]) == ("refuse", "shards")
    project.stream("ledger", SHARDED.replace("count = 4", "count = 8"))
    assert project.json("plan")["streams"][0]["action"] == "same"
    again = project.json("shard", "resize", "LEDGER", "8")
    assert (again["changed"], again["generation"]) == (False, 2)
    assert runner.running


async def test_a_resize_need_not_wait(project: Project, js: RawJetStream) -> None:
    runner = project.start("run")
    await eventually(lambda: len(shards(project)) == 4)
    await js.publish("ledger.a.posted", b"slow")
    found = project.json("shard", "resize", "LEDGER", "2", "--no-wait")
    assert (found["changed"], found["functions"][0]["state"]) == (True, "draining")
    (project.root / "go").touch()
    await eventually(lambda: {shard["generation"] for shard in shards(project)} == {2})
    assert runner.running


async def test_a_resize_that_has_nothing_to_drain_tells_of_no_drain(project: Project) -> None:
    project.start("run")
    await eventually(lambda: len(shards(project)) == 4)
    done = project.runner("shard", "resize", "LEDGER", "8")
    assert done.code == 0, done.stderr
    assert done.stderr.splitlines()[:2] == [
        "LEDGER: 4 → 8 shards, generation 2",
        "post: works on generation 2",
    ]


def waiting(project: Project) -> dict[tuple[int, str], int]:
    """What waits in each generation, with its state."""
    found: dict[tuple[int, str], int] = {}
    for shard in shards(project):
        place = (shard["generation"], shard["state"])
        found[place] = found.get(place, 0) + shard["lag"] + shard["pending"]
    return found


async def test_what_waits_where_no_durable_has_been_made_yet_is_counted(
    project: Project, js: RawJetStream
) -> None:
    """Resized while nobody runs: generation 2 has no durables at all, and generation 1 lacks one."""
    runner = project.start("run")

    async def made() -> bool:
        return len(await js.consumers("LEDGER")) == 4

    await eventually(made)
    runner.kill()
    for number in range(12):
        await js.publish(f"ledger.a{number}.posted", b"")
    project.runner("shard", "resize", "LEDGER", "8", "--no-wait")
    for number in range(5):
        await js.publish(f"ledger.a{number}.posted", b"")
    await js.api("CONSUMER.DELETE.LEDGER.shop-post-1-2")
    assert waiting(project) == {(1, "open"): 12, (2, "next"): 5}
    assert "(not open yet)" in project.runner("shard", "list").stdout
    resize = project.start("shard", "resize", "LEDGER", "8")
    await resize.seen("post: 12 messages left in generation 1, and no instance runs it")
    project.start("run")
    assert await resize.ended() == 0
    await eventually(lambda: waiting(project) == {(2, "open"): 0})
    assert len(shards(project)) == 8


async def test_a_function_that_the_project_has_no_more_is_marked_and_not_waited_for(
    project: Project, js: RawJetStream
) -> None:
    file = project.function("refunds", LEDGER.replace("def post", "def refund"))
    runner = project.start("run")
    await eventually(lambda: sum(shard["alive"] for shard in shards(project)) == 8)
    await eventually(lambda: durables(js, 8))  # a function of no code is listed as long as it has some
    runner.kill()
    await eventually(lambda: not any(shard["alive"] for shard in shards(project)))
    await js.publish("ledger.a.posted", b"")
    file.unlink()
    assert {(shard["function"], shard["gone"]) for shard in shards(project)} == {
        ("post", False),
        ("refund", True),
    }
    listed = project.runner("shard", "list")
    assert listed.stdout.count("refund (no function of this project)") == 4
    project.start("run")
    for count in ("8", "2"):
        done = project.runner("shard", "resize", "LEDGER", count)
        assert done.code == 0, done.stderr
        assert (
            "refund: is not waited for: no ordered function of shop, and no instance runs it; 1 message left"
            in done.stderr
        )
        assert "it does not come back? runner function forget refund" in done.stderr
    for name in await js.consumers("LEDGER"):
        if name.startswith("shop-refund-"):
            await js.api(f"CONSUMER.DELETE.LEDGER.{name}")
    assert {shard["function"] for shard in shards(project)} == {"post"}
    assert "refund" not in project.runner("shard", "resize", "LEDGER", "4").stderr


async def test_where_the_code_is_not_no_function_counts_as_gone(project: Project) -> None:
    project.start("run")
    await eventually(lambda: len(shards(project)) == 4)
    project.function("broken", "import nothing_of_this_name")
    assert not any(shard["gone"] for shard in shards(project))


KINDS = SHARDED.replace(".posted", ".{kind}")


async def test_other_tokens_come_from_the_file_and_must_be_those_of_every_key(
    project: Project, js: RawJetStream
) -> None:
    project.stream("ledger", KINDS)
    applied = project.runner("apply")
    assert applied.code == 0, applied.stderr
    wide = LEDGER.replace(".posted", ".{kind}") + "\n"  # of another size, or the compiled one would do
    project.function("ledger", wide)
    runner = project.start("run")
    await eventually(lambda: len(shards(project)) == 4)
    project.stream("ledger", KINDS.replace('"account"]', '"account", "kind"]'))
    refused = project.runner("shard", "resize", "LEDGER", "4")
    assert refused.code == 2
    assert (
        "LEDGER cannot be sharded by token 3 of its subjects: post of shop does not hold it" in refused.stderr
    )
    assert "let its instances run with that token in ordered_by= first" in refused.stderr
    project.function("ledger", wide.replace('ordered_by="account"', 'ordered_by=("kind", "account")'))
    told = project.json("plan", code=1)["streams"][0]["changes"][0]["why"]
    assert "run `runner shard resize LEDGER 4`, which takes `by` from the file, or go back to" in told
    older = project.runner("shard", "resize", "LEDGER", "4")
    assert (older.code, "post of shop does not hold it" in older.stderr) == (2, True), "it runs as it was"
    runner.interrupt()
    await runner.ended()
    runner = project.start("run")

    def changed() -> bool:
        return "4 shards, by account → account and kind, generation 2" in (
            project.runner("shard", "resize", "LEDGER", "4").stderr
        )

    await eventually(changed)
    assert project.json("plan")["streams"][0]["action"] == "same"
    assert "LEDGER has 4 shards already" in project.runner("shard", "resize", "LEDGER", "4").stderr
    await js.publish("ledger.a.posted", b"slow")
    project.stream("ledger", KINDS.replace('"account"]', '"kind"]'))
    project.runner("shard", "resize", "LEDGER", "4", "--no-wait")
    runner.kill()
    project.function("ledger", wide.replace('"account"', '"kind"'))
    parted = project.start("run")
    assert await parted.ended() == 2
    assert (
        "generation 2 of LEDGER is sharded by token 2 of its subjects: ordered_by= must hold it"
        in parted.output
    )
