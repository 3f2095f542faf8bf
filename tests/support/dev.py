"""`runner dev` under test: a shop, and what became of it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.eventually import until
from tests.support.process import RunnerProcess
from tests.support.project import Project

SHOP = """
    from journal import note
    from runner import Reject, RetryPolicy, consume

    @consume("orders.{kind}", retry=RetryPolicy(attempts=2, delay=0))
    async def charge(body: bytes, kind: str) -> None:
        if kind == "bad":
            raise Reject("no")
        if kind == "odd":
            raise ValueError("unlucky")
        note("charge", version=1)
"""
ORDERS = 'name = "ORDERS"\nsubjects = ["orders.*"]\n'


def started(project: Project, *arguments: str, **environment: str) -> RunnerProcess:
    dev = project.start("dev", *arguments, **environment)
    dev.line("dev ready in")
    return dev


def said(dev: RunnerProcess, pattern: str, count: int) -> None:
    until(lambda: sum(bool(re.search(pattern, line)) for line in [*dev.stdout, *dev.stderr]) >= count)


def version(project: Project) -> int:
    """Publish, and tell which version of the code took it."""
    before = len(project.journal("charge"))
    assert project.runner("publish", "orders.ok", "x").code == 0
    until(lambda: len(project.journal("charge")) > before)
    return int(project.journal("charge")[-1]["version"])


def descendants(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    children = [int(child) for child in listing.read_text().split()]
    return children + [each for child in children for each in descendants(child)]


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
