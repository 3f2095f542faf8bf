"""The how-to pages are true: each is a project, whose functions run on a real server while its commands are given."""

from __future__ import annotations

import asyncio
import re
import shlex
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer, skip_before

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
PAGES = sorted(page for page in HOWTO.glob("*.md") if page.stem != "README")
COMES_TRUE: dict[str, Callable[[Project, RawJetStream], Awaitable[bool]]] = {}
"""What a page says that its commands end with, by the page's name."""
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INVISIBLE = re.compile(r"<!---.*?-->", re.DOTALL)
NAME = re.compile(r'^name = "(\w+)"$', re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def project_of(page: Path, make_project: Callable[..., Project], nats: str) -> Project:
    """The functions and streams of a page; what a page says of tests stays out."""
    functions = [
        text
        for text in blocks(page, "python")
        if re.search(r"^@(consume|cron|reply|route|around)", text, re.MULTILINE)
    ]
    streams = {NAME.findall(text)[0].lower(): text for text in blocks(page, "toml") if NAME.search(text)}
    project = make_project(functions={"page": "\n\n".join(functions)}, streams=streams, nats=nats)
    for file in page.with_suffix("").glob("*"):  # what a page has beside it
        (project.root / file.name).write_bytes(file.read_bytes())
    return project


def ends_with(page: str) -> Callable[[Any], Any]:
    def mark(check: Callable[[Project, RawJetStream], Awaitable[bool]]) -> Any:
        COMES_TRUE[page] = check
        return check

    return mark


@ends_with("idempotency")
async def booked_once(project: Project, js: RawJetStream) -> bool:
    assert await js.count("PAYMENTS") == 1, "published twice, stored once"
    with closing(sqlite3.connect(project.root / "balances.db")) as database:
        return database.execute("SELECT * FROM balances").fetchall() == [("ada", 4200)]


@ends_with("ordering")
async def bobs_key_goes_on(project: Project, js: RawJetStream) -> bool:
    (function,) = project.json("status")["functions"]
    return (
        project.json("parked", "list") == []
        and await js.count("PARKED") == await js.count("DEADLETTERS") == 0
        and function["pending"] == function["in_flight"] == 0
    )


@ends_with("batches")
async def all_readings_and_postings_are_stored_and_one_is_given_up(
    project: Project, js: RawJetStream
) -> bool:
    (letter,) = project.json("deadletter", "list")
    assert (letter["reason"], letter["subject"]) == ("rejected", "readings.attic")
    subjects = {each.subject for each in await js.messages("CHECKS")}
    if not {"checked.attic", "alarms.attic"} <= subjects or "checked.cellar" in subjects:
        return False
    if "heat.oven" not in {each.subject for each in await js.messages("METERS")}:
        return False
    return rows(project, "readings.db", "readings") == 1_000 and rows(project, "ledger.db", "postings") == 101


def rows(project: Project, file: str, table: str) -> int:
    with closing(sqlite3.connect(project.root / file)) as database:
        (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


@ends_with("poison")
async def the_rejected_one_is_back_and_the_other_is_gone(project: Project, _: RawJetStream) -> bool:
    letters = project.json("deadletter", "list")
    return [letter["reason"] for letter in letters] == ["rejected"] and letters[0]["sequence"] > 2


@ends_with("message")
async def one_order_waits_and_the_other_is_charged(project: Project, _: RawJetStream) -> bool:
    (waits,), (done,) = (project.json("message", "show", f"ORDERS:{each}")["functions"] for each in (1, 2))
    assert project.json("message", "show", "ORDERS", "--key", "ada")["messages"][0]["sequence"] == 1
    if (waits["state"], done["state"]) != ("retrying", "done"):
        return False
    assert [each["message_id"] for each in done["outputs"]] == ["PAYMENTS:1"]
    return (waits["error"]["error"], waits["error"]["message"]) == ("BankClosed", "try again later")


@ends_with("nats-py")
@ends_with("celery")
async def nothing_is_left(project: Project, _: RawJetStream) -> bool:
    functions = project.json("status")["functions"]
    return all(each["pending"] == each["in_flight"] == 0 for each in functions)


@ends_with("schedules")
async def the_report_stands(project: Project, js: RawJetStream) -> bool:
    listed = project.json("schedule", "list")["schedules"]
    assert {each["state"] for each in listed} == {"stands"}
    return [each.subject for each in await js.messages("REPORTS")] == ["reports.daily"]


@ends_with("faststream")
async def the_order_is_charged(_: Project, js: RawJetStream) -> bool:
    return [each.subject for each in await js.messages("PAYMENTS")] == ["payments.ada.charged"]


@ends_with("splitting")
async def both_orders_are_joined(_: Project, js: RawJetStream) -> bool:
    totals = {each.subject: each.json() for each in await js.messages("SALES", "totals.>")}
    return {subject: total["cents"] for subject, total in totals.items()} == {
        "totals.o-1": 750,
        "totals.o-2": 0,
    }


@ends_with("hooks")
async def the_payment_has_its_tenant(_: Project, js: RawJetStream) -> bool:
    return [each.json() for each in await js.messages("PAYMENTS")] == [{"order": "o-1", "tenant": "acme"}]


@ends_with("processes")
async def the_number_is_factored(_: Project, js: RawJetStream) -> bool:
    return [each.json() for each in await js.messages("JOBS", "factors.>")] == [[2, 2, 2, 3, 3, 5, 7, 11, 13]]


@ends_with("requests")
async def the_cart_is_quoted(_: Project, js: RawJetStream) -> bool:
    assert await js.count("CARTS") == 4, "the cart, what both quotes have published, and the offer"
    return [each.json() for each in await js.messages("CARTS", "offers.>")] == [
        {"customer": "ada", "cents": 950}
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_of_a_kind_that_is_run(page: Path) -> None:
    assert {kind for kind, _ in BLOCK.findall(page.read_text())} <= {"python", "toml", "yaml", "console"}
    shown = INVISIBLE.sub("", BLOCK.sub("", page.read_text()))
    assert not re.search(r"^(?: {4}|\t)\S", shown, re.MULTILINE), "an indented block"


@pytest.mark.server
@pytest.mark.anyio
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_the_commands_of_a_page_do_in_its_project_what_it_says(
    page: Path, make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    if page.stem == "schedules":
        skip_before("2.14", "schedules")
    project = project_of(page, make_project, nats_server.url)
    port = free_port()
    commands = [
        part
        for block in blocks(page, "console")
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)
        if part
    ]
    assert commands
    for line, _, printed in (part.partition("\n") for part in commands):
        command, *arguments = shlex.split(line.replace(":8080", f":{port}"), comments=True)
        if command == "curl":
            answer = await asyncio.to_thread(
                subprocess.run, [command, *arguments], capture_output=True, text=True, check=True
            )
            assert answer.stdout == printed.removesuffix("\n"), line
            continue
        assert (command, printed) == ("runner", "")
        if arguments[0] in ("run", "gateway"):
            await project.start(*arguments).seen("ready: " if arguments[0] == "run" else "HTTP at ")
            continue
        last = project.runner(*arguments)

        def succeeded(arguments: list[str] = arguments) -> bool:
            nonlocal last
            if last.code != 0:
                last = project.runner(*arguments)
            return last.code == 0

        try:
            await eventually(succeeded)
        except AssertionError:
            raise AssertionError(f"{line}\n{last.stdout}{last.stderr}") from None
    if page.stem in COMES_TRUE:
        await eventually(lambda: COMES_TRUE[page.stem](project, js))


@pytest.mark.server
@pytest.mark.anyio
async def test_the_function_goes_on_where_the_loop_of_nats_py_was(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    page = HOWTO / "nats-py.md"
    project = project_of(page, make_project, nats_server.url)
    await project.applied()
    (before,) = (text for text in blocks(page, "python") if "async def loop" in text)
    namespace: dict[str, Any] = {}
    exec(before, namespace)
    looping = asyncio.create_task(namespace["loop"](js.client))
    for name in ("o-1", "o-2"):
        await js.publish("orders.ada.created", {"id": name, "cents": 4200})
    await eventually(lambda: js.settled("ORDERS", "orders-worker"))
    assert await js.count("PAYMENTS") == 2
    while not looping.done():  # Python 3.11's `wait_for`, in which it waits, may drop a cancel
        looping.cancel()
        await asyncio.wait([looping], timeout=1)

    await js.publish("orders.bob.created", {"id": "o-3", "cents": 100})
    await project.start("run").seen("ready: ")
    await eventually(lambda: js.settled("ORDERS", "orders-worker"))  # its last request ends first
    charged = [(each.subject, each.json()["order"]) for each in await js.messages("PAYMENTS")]
    assert charged == [
        ("payments.ada.charged", "o-1"),
        ("payments.ada.charged", "o-2"),
        ("payments.bob.charged", "o-3"),
    ]
    assert await js.consumers("ORDERS") == ["orders-worker"]
