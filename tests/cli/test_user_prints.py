"""What a project's code prints goes to stderr where a command prints data."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.project import Project

PRINTING = """
    import os
    import subprocess
    import sys
    from runner import consume, lifespan

    print("imported")

    @lifespan
    async def state():
        print("opened")
        yield 1
        print("closed")

    @consume("plain", output="told")
    async def charge(order: bytes) -> str:
        print("async", file=sys.stdout)
        os.write(1, b"by its number\\n")
        subprocess.run(["echo", "by a program"])
        return "done"

    @consume("threads")
    def thread(order: bytes) -> str:
        sys.__stdout__.write("in a thread\\n")
        return "done"
"""


def test_what_the_users_code_prints_is_no_data(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"shop": PRINTING}, nats="nats://127.0.0.1:1")
    done = project.runner("function", "invoke", "charge", "x", "--output", "json")
    assert json.loads(done.stdout)["result"] == "done"
    for said in ("imported", "opened", "async", "by its number", "by a program", "closed"):
        assert f"{said}\n" in done.stderr
    done = project.runner("function", "invoke", "thread", "x", "--output", "json")
    assert json.loads(done.stdout)["result"] == "done"
    assert "in a thread" in done.stderr
    assert len(project.json("function", "list")) == 2
    assert project.runner("check", "--output", "json").stdout.startswith("{")
