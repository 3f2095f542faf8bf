"""`runner schedule`, and what the other commands tell of schedules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.dev import said, started
from tests.support.eventually import eventually, until
from tests.support.jetstream import RawJetStream, Stored
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.since("2.14", "schedules")]

CRON = "$JETRUNNER.cron.shop"
HEAD = """
    from journal import note
    from runner import Context, consume, cron
"""
NIGHTLY = """
    @cron("0 3 * * *", timezone="Europe/Berlin")
    async def nightly(ctx: Context) -> None:
        note("nightly", due=ctx.scheduled.isoformat(), sequence=ctx.sequence)
"""
OFTEN = """
    @cron("@every 90m", overlap="allow")
    def often() -> None: ...
"""
READS = """
    @consume("orders.*")
    async def charge(body: bytes) -> None: ...
"""
ORDERS = 'name = "ORDERS"\nsubjects = ["orders.*"]\n'


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"shop": HEAD + NIGHTLY + OFTEN}, nats=nats_server.url)


def listed(project: Project) -> dict[str, dict[str, Any]]:
    return {each["function"]: each for each in project.json("schedule", "list")["schedules"]}


def states(project: Project) -> dict[str, str]:
    return {name: each["state"] for name, each in listed(project).items()}


async def standing(js: RawJetStream, function: str) -> list[Stored]:
    return await js.messages("JETRUNNER", f"{CRON}.{function}")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_the_list_tells_what_is_missing_stands_differs_and_is_gone(project: Project) -> None:
    assert states(project) == {"nightly": "missing", "often": "missing"}
    assert [each["next"] for each in listed(project).values()] == [None, None]
    assert project.runner("apply").code == 0
    assert states(project) == {"nightly": "stands", "often": "stands"}
    project.function("shop", HEAD + NIGHTLY.replace("0 3", "0 4"))
    found = listed(project)
    assert {name: each["state"] for name, each in found.items()} == {"nightly": "differs", "often": "gone"}
    assert (found["nightly"]["schedule"], found["often"]["schedule"]) == (
        "0 4 * * * Europe/Berlin",
        "@every 90m",
    )
    assert (found["nightly"]["overlap"], found["often"]["overlap"]) == ("skip", None)
    done = project.runner("schedule", "list")
    assert done.code == 0
    assert done.stdout.splitlines()[0].split() == ["FUNCTION", "SCHEDULE", "OVERLAP", "NEXT", "STATE"]
    assert "hint: `runner apply` makes the schedules what the code says" in done.stderr


async def test_the_list_tells_when_each_fires_next(project: Project) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    assert project.runner("apply").code == 0
    found = listed(project)
    every = at(found["often"]["next"])
    assert began + timedelta(minutes=90) <= every <= datetime.now(UTC) + timedelta(minutes=90)
    nightly = at(found["nightly"]["next"])
    assert nightly.utcoffset() == timedelta(0)
    assert (nightly.hour in (1, 2), nightly.minute, nightly.second) == (True, 0, 0)
    assert began < nightly <= began + timedelta(hours=25)
    status = project.json("status")
    assert status["next_firings"] == {name: each["next"] for name, each in found.items()}
    assert f"nightly fires next at {found['nightly']['next']}" in project.runner("status").stderr


async def test_after_a_firing_an_every_counts_from_it(project: Project, js: RawJetStream) -> None:
    project.function("shop", HEAD + OFTEN.replace("90m", "2s"))
    assert project.runner("apply").code == 0
    await eventually(lambda: js.messages("JETRUNNER", "$JETRUNNER.tick.shop.often"))
    following = at(listed(project)["often"]["next"])
    (last, *_) = reversed(await js.messages("JETRUNNER", "$JETRUNNER.tick.shop.often"))
    told = at(last.headers["Nats-Schedule-Next"])
    assert abs((following - told).total_seconds()) % 2 in (0, 1), (following, told)


async def test_without_schedules_the_list_says_so(project: Project) -> None:
    project.function("shop", HEAD)
    assert project.json("schedule", "list") == {"project": "shop", "schedules": []}
    assert "no function of shop has a schedule" in project.runner("schedule", "list").stderr


async def test_what_another_program_has_written_is_told_and_made_right(
    project: Project, js: RawJetStream
) -> None:
    assert project.runner("apply").code == 0
    for expression, extra in (("*/5 * * * * *", {}), ("@every 7s", {"Jetrunner-Cron": "\x07 what?"})):
        headers = {"Nats-Schedule": expression, "Nats-Schedule-Target": "$JETRUNNER.tick.shop.nightly"}
        await js.publish(f"{CRON}.nightly", b"garbage", headers | extra)
        assert states(project) == {"nightly": "differs", "often": "stands"}
        assert project.runner("status").code == 0
        assert project.runner("schedule", "list").code == 0
        assert project.runner("apply").code == 0
        assert states(project) == {"nightly": "stands", "often": "stands"}
    await js.publish(f"{CRON}.nightly", b"no schedule at all")
    assert states(project)["nightly"] == "differs"
    await js.publish(f"{CRON}.nobody", b"\x00\x1b[31m", {"Jetrunner-Cron": "\x1b[31mred"})
    done = project.runner("schedule", "list")
    assert (done.code, "\x1b" in done.stdout) == (0, False)
    assert "\x1b" not in project.runner("plan").stdout
    assert "\x1b" not in project.runner("status").stderr
    assert project.runner("apply").code == 0
    assert states(project) == {"nightly": "stands", "often": "stands"}


async def test_fire_stores_a_firing_that_one_instance_runs(project: Project, js: RawJetStream) -> None:
    process = project.start("run")
    await process.seen("ready: nightly, often")
    done = project.json("schedule", "fire", "nightly")
    assert (done["stream"], done["duplicate"]) == ("JETRUNNER", False)
    (ran,) = await eventually(lambda: project.journal("nightly"))
    assert ran["sequence"] == done["seq"]
    due = at(ran["due"])
    assert abs((datetime.now(UTC) - due).total_seconds()) < 60
    assert due.utcoffset() in (timedelta(hours=1), timedelta(hours=2)), "in the time zone of its schedule"
    assert project.runner("schedule", "fire", "nightly").stdout.startswith("JETRUNNER:")


async def test_fire_of_a_function_without_a_schedule_is_an_error(project: Project) -> None:
    project.function("shop", HEAD + READS)
    done = project.runner("schedule", "fire", "charge")
    assert (done.code, done.stdout) == (2, "")
    assert "error: charge has no schedule: it reads orders.*" in done.stderr
    assert "hint: runner publish sends it a message" in done.stderr
    unknown = project.runner("schedule", "fire", "nobody")
    assert (unknown.code, "nobody" in unknown.stderr) == (2, True)


async def test_fire_after_apply_waits_for_the_first_instance(project: Project) -> None:
    refused = project.runner("schedule", "fire", "nightly")
    assert (refused.code, "hint: runner apply makes the schedules" in refused.stderr) == (1, True)
    assert project.runner("apply").code == 0
    done = project.runner("schedule", "fire", "nightly")
    assert done.code == 0, done.stderr
    process = project.start("run")
    await process.seen("ready: nightly")
    await eventually(lambda: project.journal("nightly"))


async def test_plan_shows_what_apply_then_does_once(project: Project, js: RawJetStream) -> None:
    planned = project.runner("plan")
    assert planned.code == 0, planned.stderr
    assert "+ schedule nightly: 0 3 * * * Europe/Berlin\n" in planned.stdout
    assert "schedules: 2 to create" in planned.stderr
    document = project.json("plan")["schedules"]
    assert document == [
        {"function": "nightly", "action": "create", "text": "0 3 * * * Europe/Berlin", "changes": []},
        {"function": "often", "action": "create", "text": "@every 90m", "changes": []},
    ]
    assert project.json("apply")["schedules"] == document
    before = [each.sequence for name in ("nightly", "often") for each in await standing(js, name)]
    again = project.runner("apply")
    assert (again.code, again.stdout) == (0, "")
    assert "schedules: 2 as declared" in again.stderr
    after = [each.sequence for name in ("nightly", "often") for each in await standing(js, name)]
    assert after == before, "a written @every begins to count anew"


async def test_a_changed_schedule_is_shown_old_and_new_and_one_that_is_gone_is_removed(
    project: Project, js: RawJetStream
) -> None:
    assert project.runner("apply").code == 0
    project.function("shop", HEAD + NIGHTLY.replace("0 3", "30 4").replace("Berlin", "Paris"))
    planned = project.runner("plan")
    assert planned.code == 0
    assert "~ schedule nightly: 30 4 * * * Europe/Paris\n" in planned.stdout
    assert '    ~ schedule: "0 0 3 * * *" → "0 30 4 * * *"\n' in planned.stdout
    assert '    ~ timezone: "Europe/Berlin" → "Europe/Paris"\n' in planned.stdout
    assert "- schedule often: @every 90m, and no function has it any more\n" in planned.stdout
    assert "schedules: 1 to update, 1 to remove" in planned.stderr
    actions = [(each["function"], each["action"]) for each in project.json("plan")["schedules"]]
    assert actions == [("nightly", "update"), ("often", "remove")]
    applied = project.runner("apply")
    assert applied.code == 0, applied.stderr
    assert "schedules: 1 updated, 1 removed" in applied.stderr
    assert await standing(js, "often") == []
    (there,) = await standing(js, "nightly")
    assert (there.headers["Nats-Schedule"], there.headers["Nats-TTL"]) == ("0 30 4 * * *", "never")


async def test_a_schedule_of_another_project_with_the_same_function_stays(
    project: Project, make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    other = make_project(
        name="shop2", functions={"shop": HEAD + NIGHTLY.replace("0 3", "0 9")}, nats=nats_server.url
    )
    assert project.runner("apply").code == other.runner("apply").code == 0
    assert states(project) == {"nightly": "stands", "often": "stands"}
    assert states(other) == {"nightly": "stands"}
    project.function("shop", HEAD)
    assert project.runner("apply").code == 0
    assert (states(project), states(other)) == ({}, {"nightly": "stands"})


async def test_where_a_stream_is_refused_no_schedule_is_written(project: Project, js: RawJetStream) -> None:
    project.stream("orders", ORDERS)
    project.function("shop", HEAD + READS)
    assert project.runner("apply").code == 0
    project.stream("orders", ORDERS + 'storage = "memory"\n')
    project.function("shop", HEAD + READS + NIGHTLY)
    assert project.runner("plan").code == 1
    assert project.runner("apply").code == 1
    assert states(project) == {"nightly": "missing"}


async def test_check_warns_of_a_firing_that_the_clock_skips(make_project: Callable[..., Project]) -> None:
    source = HEAD + NIGHTLY.replace("0 3 * * *", "30 2 * * *")
    done = make_project(functions={"shop": source}).runner("check")
    assert (done.code, done.stdout) == (0, "shop: 1 function, 0 streams, 1 warning\n")
    assert "warning: nightly does not fire at 20" in done.stderr
    assert "the clock of Europe/Berlin skips an hour" in done.stderr
    fine = make_project(functions={"shop": HEAD + NIGHTLY + OFTEN}).json("check")
    assert (fine["warnings"], fine["problems"]) == ([], [])


async def test_check_tells_on_a_server_which_schedules_are_not_applied(project: Project) -> None:
    url = project.environment["NATS_URL"]
    warned = project.json("check", "--nats-url", url)["warnings"]
    assert warned == ["not yet applied: the schedule of nightly, the schedule of often (runner apply)"]
    assert project.runner("apply").code == 0
    assert project.json("check", "--nats-url", url)["warnings"] == []


async def test_what_is_left_of_a_function_with_a_schedule_is_forgotten(
    project: Project, js: RawJetStream
) -> None:
    process = project.start("run")
    await process.seen("ready: nightly")
    assert project.runner("schedule", "fire", "nightly").code == 0
    await eventually(lambda: project.journal("nightly"))
    process.terminate()
    await process.ended()
    project.function("shop", HEAD + OFTEN)
    told = project.json("function", "forget", "nightly", "--dry-run")
    assert (told["removed"], told["scheduled"] >= 1, len(told["durables"])) == (False, True, 1)
    done = project.runner("function", "forget", "nightly", "--yes")
    assert (done.code, "of its schedule" in done.stdout) == (0, True), done.stderr
    left = [each.subject for each in await js.messages("JETRUNNER")]
    left += [each.subject for each in await js.messages("KV_jetrunner")]
    assert [each for each in left if "nightly" in each] == []
    assert states(project) == {"often": "stands"}


async def test_dev_writes_a_changed_schedule_when_it_loads_the_code_again(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(functions={"shop": HEAD + NIGHTLY + OFTEN}, streams={"orders": ORDERS})
    dev = started(project)
    assert states(project) == {"nightly": "stands", "often": "stands"}
    project.function("shop", HEAD + NIGHTLY.replace("0 3", "0 5"))
    said(dev, "dev ready in", 2)
    until(
        lambda: states(project) == {"nightly": "stands"}
    )  # its server is its own: no other release runs there
    assert listed(project)["nightly"]["schedule"] == "0 5 * * * Europe/Berlin"
    project.function("shop", HEAD + READS)
    until(lambda: states(project) == {})


async def test_dev_on_a_server_that_others_use_removes_no_schedule(project: Project) -> None:
    assert project.runner("apply").code == 0
    project.function("shop", HEAD + NIGHTLY)
    dev = project.start("dev")
    await dev.seen("dev ready in")
    assert states(project) == {"nightly": "stands", "often": "gone"}
