"""While the connection is lost what runs goes on, and its answers leave on the next one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.core import service
from tests.support.asker import asking, deadline
from tests.support.eventually import eventually
from tests.support.project import Project
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
    import asyncio
    from pathlib import Path
    from journal import note
    from runner import reply

    @reply("work.{number}", timeout=120.0)
    async def work(number: int) -> int:
        note("begun", number=number)
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        note("done", number=number)
        return number
"""


def those(project: Project, what: str) -> set[int]:
    """The requests of which a handler has noted it."""
    return {note["number"] for note in project.journal(what)}


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_answers_that_are_still_waited_for_leave_on_the_next_connection(
    make_project: Callable[..., Project], nats_server: NatsServer, wire: str
) -> None:
    async with Proxy.to(nats_server.port) as proxy, asking(nats_server.url) as asker:
        project = make_project(functions={"shop": SOURCE}, settings=f'wire = "{wire}"\n', nats=proxy.url)
        await asker.subscribe(service.NEWS)
        process = project.start("run")
        await process.seen("ready: work")
        came = service.read_info((await asker.answers.get()).body)
        patient = [asker.asked(f"work.{number}", header=deadline(60_000)) for number in range(3)]
        asker.asked("work.3", header=deadline(1_000))  # its asker gives up meanwhile, or even before
        silent = asker.asked("work.4")
        await eventually(lambda: those(project, "begun") >= {0, 1, 2, 4})
        await proxy.cut(refuse=True)
        await process.seen("lost; reconnecting")
        (project.root / "go").touch()
        await eventually(lambda: those(project, "done") >= {0, 1, 2, 4})
        await asker.flush()
        assert not any(each.done() for each in (*patient, silent))
        assert await eventually(lambda: int(proxy.connections) > 1)
        await proxy.mend()
        await process.seen("connected again")
        again = service.read_info((await asker.answers.get()).body)
        assert (again, again.gone) == (came, False), "who balances hears that it is back"
        answers = [await each for each in patient]
        assert [int(each.body) for each in answers] == [0, 1, 2]
        assert int((await silent).body) == 4
        assert (await asker.ask("work.5")).body == b"5", "and new requests come"
        assert [note["number"] for note in project.journal("begun")].count(0) == 1
        assert process.running
