"""The end of an instance: every request that has reached it is answered, and nothing runs twice."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from runner.core.service import instance_subject
from tests.support.asker import Answer, Asker, asking, deadline
from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

DRAINS = int(os.environ.get("JETRUNNER_TEST_DRAINS", "3"))
SOURCE = """
    import asyncio
    import os
    from journal import note
    from runner import Context, reply

    @reply("work.{number}", idempotent=False)
    async def work(number: int) -> int:
        note("work", number=number)
        await asyncio.sleep(0.02)
        return number

    @reply("held")
    async def held() -> str:
        note("held")
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        return "done"

    @reply("hang.{number}")
    async def hang(number: int) -> int:
        note("hang", number=number)
        await asyncio.sleep(600)
        return number
"""


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"shop": SOURCE}, nats=nats_server.url)


async def instances(asker: Asker, count: int) -> list[str]:
    """The names of so many instances."""
    await asker.subscribe("_INBOX.pings")
    asker.send("$SRV.PING.shop", reply="_INBOX.pings")
    found = [msgspec.json.decode((await asker.answers.get()).body)["id"] for _ in range(count)]
    return sorted(found)


async def load(asker: Asker, numbers: range, answers: dict[int, Answer], pause: float = 0.001) -> None:
    """Ask one after the other, a thousand a second, and keep what comes back."""

    async def one(number: int) -> None:
        answers[number] = await asker.ask(f"work.{number}", within=60)

    async with asyncio.TaskGroup() as tasks:
        for number in numbers:
            tasks.create_task(one(number))
            await asyncio.sleep(pause)


async def started(project: Project) -> RunnerProcess:
    process = project.start("run", "--drain-timeout", "60")
    await process.seen("ready: work")
    return process


async def test_no_request_is_lost_or_runs_twice_while_instances_are_replaced(
    project: Project, nats_server: NatsServer
) -> None:
    answers: dict[int, Answer] = {}
    async with asking(nats_server.url) as asker:
        processes = [await started(project) for _ in range(2)]
        asked = 0
        for _ in range(DRAINS):
            numbers = range(asked, asked + 600)
            asked = numbers.stop
            loading = asyncio.create_task(load(asker, numbers, answers))
            await eventually(lambda begin=numbers.start: len(answers) > begin + 100)  # type: ignore[misc]
            old = processes.pop(0)
            old.terminate()
            assert await old.ended() == 0
            processes.append(await started(project))
            await loading
    assert {each.header for each in answers.values()} == {b""}
    assert {number: int(each.body) for number, each in answers.items()} == {n: n for n in range(asked)}
    ran = Counter(note["number"] for note in project.journal("work"))
    assert ran == Counter(range(asked)), "executed = sent"
    assert len({note["pid"] for note in project.journal("work")}) > DRAINS, (
        "each of the later ones has worked"
    )


async def test_what_comes_to_an_instance_that_ends_is_refused_unbegun(
    project: Project, nats_server: NatsServer
) -> None:
    async with asking(nats_server.url) as asker:
        process = await started(project)
        (instance,) = await instances(asker, 1)
        running = asker.asked("hang.1", header=deadline(1_500))
        held = asker.asked("held")  # it keeps the instance there until all is asked, however long that takes
        await eventually(lambda: project.journal("held") and (project.journal("hang") or running.done()))
        process.terminate()
        await process.seen("draining")

        async def refused() -> bool:
            answer = await asker.ask(instance_subject("shop", instance, "work.7"))
            return answer.not_started == "draining" and answer.code == 503

        await eventually(refused)
        info = msgspec.json.decode((await asker.ask(f"$SRV.INFO.shop.{instance}")).body)
        assert info["endpoints"] == [], "who asks who is there does not take it for one that answers"
        assert (await running).code == 408, "what ran was let run, up to its deadline"
        (project.root / "go").touch()
        assert (await held).body == b"done", "what ran was let run to its end"
        assert await process.ended() == 0
        gone = await asker.ask(instance_subject("shop", instance, "work.7"))
        assert gone.header.startswith(b"NATS/1.0 503"), "the server says that nobody listens"
    assert {note["number"] for note in project.journal("work")} <= {7}


async def test_the_drain_timeout_bounds_it_and_askers_are_told(
    project: Project, nats_server: NatsServer
) -> None:
    async with asking(nats_server.url) as asker:
        process = project.start("run", "--drain-timeout", "0.5")
        await process.seen("ready: work")
        asked = [asker.asked(f"hang.{number}") for number in range(70)]
        await eventually(lambda: len(project.journal("hang")) == 64)
        process.terminate()
        answers = await asyncio.wait_for(asyncio.gather(*asked), 60)
        assert await process.ended() == 0
    begun = [each for each in answers if not each.not_started]
    assert {each.code for each in answers} == {503}
    assert len(begun) == 64
    assert {each.error for each in begun} == {"the instance ends, and the handler was cancelled"}
    assert {each.not_started for each in answers} == {"", "draining"}
    assert len(project.journal("hang")) == 64, "what waited has not begun"


async def test_a_killed_instance_leaves_the_others_working(project: Project, nats_server: NatsServer) -> None:
    answers: dict[int, Answer] = {}
    async with asking(nats_server.url) as asker:
        first, _ = [await started(project) for _ in range(2)]
        first.kill()
        await eventually(lambda: len(nats_server.log.read_text()) > 0)

        async def alone() -> bool:
            for _ in range(10):  # one answer says little: the living one may have been chosen of two
                await asker.ask("work.0", within=0.5)
            return True

        await eventually(alone)
        await load(asker, range(1, 300), answers)
    assert {number: int(each.body) for number, each in answers.items()} == {n: n for n in range(1, 300)}
