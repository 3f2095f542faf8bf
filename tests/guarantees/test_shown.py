"""Text of others is shown escaped: on the terminal and in the log nothing of it acts, and no line of it is taken for ours."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\u009b31m\u202egnp.exe\u2066\x7f\x00\r\n2031-05-04T12:00:00.000Z error   jetrunner: forged"
"""Clipboard, clear, C1, direction, DEL, NUL, and a line that looks like a record of the log."""
ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

RAISES = """
    EVIL = %r

    @consume("orders.{name}", retry=RetryPolicy.fixed(0, attempts=2))
    async def charge(body: bytes, ctx: Context) -> None:
        ctx.log.warning("said: %%s", EVIL)
        try:
            raise KeyError(EVIL) from ValueError(EVIL)
        except KeyError:
            ctx.log.exception("with a traceback")
        raise ValueError(EVIL)

    @consume("orders.{name}")
    async def refuse(body: bytes, ctx: Context) -> None:
        raise Reject(body.decode())
"""


def harmless(text: str) -> bool:
    """Whether nothing in it acts, and no line is the forged one."""
    return not ACTING.search(text) and not any(
        line.startswith("2031-05-04T12:00:00.000Z") for line in text.split("\n")
    )


@pytest.fixture
async def dead(shop: Shop) -> RunnerProcess:
    """Two dead letters of one message, and the process that gave it up."""
    await shop.open(RAISES % EVIL)
    process = shop.run("--log-level", "debug")
    await process.seen("ready:")
    headers = {"Tenant": "\x1b[31mred\x7f", "Content-Type": "text/\u202eplain"}
    await shop.js.publish("orders.a\x1bb", EVIL, headers)
    await shop.dead_letter(2)
    return process


async def test_the_log_shows_what_handlers_and_messages_say_escaped(dead: RunnerProcess) -> None:
    await eventually(lambda: "is a dead letter" in dead.output)
    assert harmless(dead.output)
    assert r"\x1b]52;c;ZXZpbA==\x07" in dead.output
    assert r"\u202egnp.exe\u2066" in dead.output
    assert "Traceback" in dead.output


@pytest.mark.usefixtures("dead")
async def test_dead_letters_are_shown_escaped(shop: Shop) -> None:
    for command in (("list",), ("show", "1"), ("show", "2")):
        done = await asyncio.to_thread(shop.project.runner, "deadletter", *command)
        assert done.code == 0, done.stderr
        assert harmless(done.stdout + done.stderr), command
        assert r"\x9b31m" in done.stdout
    letters = [await asyncio.to_thread(shop.project.json, "deadletter", "show", each) for each in ("1", "2")]
    for letter in letters:
        assert letter["body"] == EVIL
        assert letter["subject"] == "orders.a\x1bb"
    for command in (("list",), ("show", "1")):
        done = await asyncio.to_thread(shop.project.runner, "deadletter", *command, "--output", "json")
        assert not ACTING.search(done.stdout), "JSON is escaped, DEL and C1 included"
        json.loads(done.stdout)


async def test_what_a_function_returns_and_raises_is_shown_escaped_when_it_is_called_here(shop: Shop) -> None:
    shop.write(
        RAISES % EVIL
        + """
    @consume("orders.{name}", output="paid.{name}")
    async def echo(body: bytes, ctx: Context) -> bytes:
        await ctx.publish("audit.x", body)
        return body
"""
    )
    for function in ("charge", "refuse", "echo"):
        done = await asyncio.to_thread(
            shop.project.runner, "function", "invoke", function, "-", "--subject", "orders.a", stdin=EVIL
        )
        assert harmless(done.stdout + done.stderr), function
        assert r"\x1b" in done.stdout + done.stderr


async def test_each_attempt_is_shown_escaped_by_dev(shop: Shop, make_project: Callable[..., Project]) -> None:
    await shop.open(RAISES % EVIL)
    process = shop.run("--each", "text")
    await process.seen("ready:")
    await shop.js.publish("orders.a", EVIL)
    await process.seen("✗")
    await shop.dead_letter(2)
    assert harmless(process.output)


async def test_errors_name_what_others_have_said_escaped(shop: Shop) -> None:
    for command in (
        ("function", "invoke", EVIL.replace("\x00", "")),
        ("publish", "a b\x1b[2J", "x"),
        ("deadletter", "list", "--function", "\x1b[2J"),
        ("deadletter", "redrive", "--key", "\x1b[2J\n"),
    ):
        done = await asyncio.to_thread(shop.project.runner, *command)
        assert done.code != 0
        assert harmless(done.stdout + done.stderr), command
