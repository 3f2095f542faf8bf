"""Requests over a cluster whose links are slow, cut and frozen: nothing runs twice that is not idempotent, the rest is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import connect
from runner.errors import ServerError
from tests.guarantees.test_request_failover import SOURCE, Load, started
from tests.support.links import linked_cluster
from tests.support.project import Project

pytestmark = [pytest.mark.server, pytest.mark.anyio]

DELAY = 0.05


async def test_links_that_are_slow_cut_and_frozen(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    async with linked_cluster(tmp_path / "cluster") as (cluster, links):
        project = make_project(functions={"shop": SOURCE}, settings="leader_timeout = 60.0")
        processes = []
        for server in cluster.servers:
            project.environment["NATS_URL"] = server.url
            processes.append(await started(project))
        async with connect(cluster.servers[0].url) as app:
            charges = Load(app, "charge", timeout=5.0, a_second=100)
            quotes = Load(app, "quote", a_second=100)
            async with charges.running(), quotes.running():
                await quotes.more(200)
                links[0].delay(DELAY)
                await quotes.more(200)
                for link in links[:2]:
                    await link.cut()
                    await quotes.more(150)
                    await link.mend()
                    await quotes.more(150)
                links[1].freeze()
                await quotes.more(100)
                await links[1].mend()
                await quotes.more(150)
        assert [repr(error) for error in quotes.failed] == []
        assert all(isinstance(error, ServerError) for error in charges.failed)
        ran = Counter(note["number"] for note in project.journal("charge"))
        assert [number for number, times in ran.items() if times > 1] == []
        assert charges.asked - len(charges.failed) <= len(ran)
        assert len(ran) > charges.asked * 0.9
