"""`runner permissions`: a project runs with what it prints, and with nothing less."""

from __future__ import annotations

import random
import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from functions._endpoint import endpoint
from runner.core.subject import covers
from tests.support.forked import Forks
from tests.support.jetstream import RawJetStream
from tests.support.permitted import (
    DESCRIBED,
    FUNCTIONS,
    NARROWER,
    ROLES,
    STREAMS,
    Broken,
    Claims,
    Life,
    Role,
    live,
    printed,
    users,
)
from tests.support.project import Project
from tests.support.server import NatsServer

ROOT = Path(__file__).parents[2]
AT_ONCE = 10
SHARES = 20
"""Of the permissions: each is a test of its own. `just test` tries one by luck, and `just thorough` all."""
TRIES = ("A", "B")
"""Names of accounts, a life in each; in the second one everything may take longer."""
VIOLATION = re.compile(r'user:(\w+)-(\w+)" - (Publish|Subscription) Violation - Subject "([^"]+)"')
BACK = "the log says that it cannot be noticed when that stream goes back (test_history_own.py)"
LOST = "what an older store has lost of outputs is not noticed (test_history_stored.py)"
LIMITED = "what the server gives up, where somebody has limited deliveries, stays (test_drifting_durables.py)"
FORMERLY = "what was sent back to it while it kept no order stays (test_changed_function.py)"
CLOCK = "a hint: it is read every few seconds all the same"
ONE_BY_ONE = "outputs are read one by one, and fewer of them (test_message_odd.py)"
LEADERLESS = "a cluster without a leader is told of later (test_no_leader.py)"
LESS: dict[tuple[Role, str], str] = {
    ("run", "$JS.API.STREAM.CREATE.JETRUNNER"): "where there is a schedule, apply has made it",
    ("run", "$JS.API.STREAM.INFO.DEADLETTERS"): BACK,
    ("run", "$JS.API.STREAM.INFO.PARKED"): BACK,
    ("run", "$JS.API.STREAM.MSG.GET.REMINDERS"): BACK,
    ("run", "$JS.API.STREAM.MSG.GET.JETRUNNER"): BACK,
    **{
        ("run", f"$JS.API.STREAM.{ask}.{stream}"): LOST
        for ask, streams in (("INFO", ("BALANCES", "NOTES", "BEATS")), ("MSG.GET", ("NOTES", "BEATS")))
        for stream in streams
    },
    ("run", "$JS.API.CONSUMER.LIST.REMINDERS"): "another durable= begins anew (test_changed_function.py)",
    ("run", "$JS.API.CONSUMER.INFO.JETRUNNER.shop-post"): FORMERLY,
    ("run", "$JETRUNNER.again.shop.post"): FORMERLY,
    (
        "run",
        "$KV.jetrunner.parked.shop.remind.>",
    ): "keys of when it kept order wait for the next start (test_parked_edges.py)",
    (
        "run",
        "$KV.jetrunner.parked.shop.beat.>",
    ): "keys of when it kept order, and had no schedule, wait for the next start",
    ("run", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.JETRUNNER.shop-beat"): LIMITED,
    (
        "run",
        "$KV.jetrunner.error.shop.>",
    ): "a dead letter that expired lacks the last error (test_age_and_start.py)",
    (
        "run",
        "$KV.jetrunner.minutes.shop.>",
    ): "the hour of `runner status` lacks what ended instances did (test_status_hour.py)",
    (
        "run",
        "$JS.ACK.JETRUNNER.shop--relay.>",
    ): "a delayed message that cannot be published is tried each 10 s, not later and later",
    ("run", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.REMINDERS.shop-remind"): LIMITED,
    ("run", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.JETRUNNER.shop-remind"): LIMITED,
    (
        "run",
        "$KV.jetrunner.reading.shop.>",
    ): "two that begin at one time, with other subjects (test_changed_subject.py)",
    (
        "run",
        "jetrunner.shop.status",
    ): "the server tells, too, that others ask for messages (test_changed_subject.py)",
    ("run", "$JS.API.STREAM.NAMES"): LEADERLESS,
    ("operate", "$JS.API.STREAM.NAMES"): LEADERLESS,
    ("publish", "$JS.API.STREAM.NAMES"): LEADERLESS,
    ("run", "$KV.jetrunner.claim.shop.>"): CLOCK,
    ("run", "$KV.jetrunner.generation.shop.>"): CLOCK,
    ("run", "jetrunner.shop.members"): CLOCK,
    ("run", "jetrunner.shop.resized"): CLOCK,
    ("operate", "jetrunner.shop.resized"): CLOCK,
    (
        "operate",
        "$JS.API.CONSUMER.CREATE.LEDGER.*",
    ): "apply where it gets its shards (test_permissions_command.py)",
    (
        "operate",
        "$JS.API.STREAM.MSG.GET.LEDGER",
    ): "what waits in shards that are not open yet (test_shard.py)",
    **{
        ("operate", f"$JS.API.DIRECT.GET.{stream}"): ONE_BY_ONE
        for stream in ("LEDGER", "BALANCES", "REMINDERS", "BEATS", "NOTES")
    },
    **{
        ("operate", f"$JS.API.STREAM.MSG.GET.{stream}"): "they are no outputs on that day"
        for stream in ("BEATS", "PARKED")
    },
    ("operate", "$JS.API.STREAM.INFO.GATHER"): "runner doctor asks for it (test_doctor.py)",
    (
        "run",
        "$JS.API.STREAM.INFO.JETRUNNER_ERRORS",
    ): "the stream is made where it is missing, and taken as it is",
    (
        "publish",
        "$JS.API.STREAM.INFO.JETRUNNER",
    ): "a delay is counted by the publisher's clock (test_wrong_clock.py)",
}
"""What is worse without these does not show on such a day, or is asked for at times only."""
UNUSED = {"__init__", "_demo", "_dev", "_report", "day"}
PUBLISHED = ("reminders.*", "notes.*")
"""What handlers publish besides their outputs, and publishers with a delay."""


@pytest.fixture(autouse=True)
def _untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")


def without(claims: dict[Role, Claims], role: Role, side: str, subject: str) -> dict[Role, Claims]:
    """The same, but for one subject."""
    left = {**claims[role], side: [each for each in claims[role][side] if each != subject]}
    return {**claims, role: left}


async def flights(life: Life, raw: RawJetStream) -> None:
    """Two flights of the example: one is late, and posted; one cannot be, and is refused."""
    life.running.append(life.start("run", "run"))
    late = {"date": "2001/01/01 01:10", "delay": 95, "distance": 2399, "origin": "HNL", "destination": "SFO"}
    await life.publish(("flights.HNL", late), ("flights.HNL", {**late, "destination": "HNL", "delay": 1}))
    await life.until("an alert", lambda: _count(raw, "ALERTS"))
    await life.until("a refused flight", lambda: _count(raw, "DEADLETTERS"))
    for stream, function in (
        ("FLIGHTS", "track"),
        ("FLIGHTS", "audit"),
        ("FLIGHTS", "alert"),
        ("ALERTS", "forward"),
    ):
        await life.until(f"{function} settles", partial(raw.settled, stream, f"shop-{function}"))
    await life.do("operate", "deadletter", "redrive", "--all")
    await life.until("it has been sent back", lambda: raw.settled("JETRUNNER", "shop-audit"))
    await life.until("it is refused again", lambda: _count(raw, "DEADLETTERS"))


async def _count(raw: RawJetStream, stream: str) -> bool:
    return await raw.count(stream) == 1


def violations(server: NatsServer) -> dict[tuple[str, Role, str], set[str]]:
    """What the server has refused, by account, role and side."""
    found: dict[tuple[str, Role, str], set[str]] = defaultdict(set)
    sides = {"Publish": "publish", "Subscription": "subscribe"}
    for account, role, side, subject in VIOLATION.findall(server.log.read_text(errors="replace")):
        found[account, role, sides[side]].add(subject)
    return found


@pytest.mark.since("2.14", "schedules")
async def test_everything_works_with_what_is_printed_and_nothing_is_refused(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer], forks: Forks
) -> None:
    example = {
        file.stem: file.read_text() for file in (ROOT / "functions").glob("*.py") if file.stem not in UNUSED
    }
    declared = {file.stem: file.read_text() for file in (ROOT / "streams").glob("*.toml")}
    project = make_project(functions={**example, "shop": FUNCTIONS}, streams={**declared, **STREAMS})
    shutil.copytree(ROOT / "functions" / "_data", project.root / "functions" / "_data")
    later = make_project(functions={"shop": NARROWER}, streams=DESCRIBED)
    rights = printed(project, {"run": PUBLISHED}, {"publish": ("quotes.*",)})
    server = make_server("accounts {\n" + users("WHOLE", rights) + "}\n")
    with endpoint() as posted:
        project.environment["ALERTS_URL"] = posted.url
        life = Life(forks, server, "WHOLE", project, later, patience=5.0)
        async with RawJetStream.connect(life.url("all")) as raw:
            try:
                await live(life, raw)
                await flights(life, raw)
            finally:
                life.end()
        assert len(posted.taken) == 1
    assert violations(server) == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "share",
    [
        pytest.param(None, id="by luck"),
        *(pytest.param(share, marks=pytest.mark.thorough) for share in range(SHARES)),
    ],
)
@pytest.mark.since("2.14", "schedules")
async def test_each_permission_that_is_taken_away_breaks_something(
    make_project: Callable[..., Project],
    make_server: Callable[..., NatsServer],
    forks: Forks,
    share: int | None,
) -> None:
    if share is None:
        share = random.SystemRandom().randrange(SHARES)
    project = make_project(functions={"shop": FUNCTIONS}, streams=STREAMS)
    later = make_project(functions={"shop": NARROWER}, streams=DESCRIBED)
    claims = printed(project, {"run": PUBLISHED})
    taken = [
        (role, side, subject)
        for role in ROLES
        for side in ("publish", "subscribe")
        for subject in claims[role][side]
        if not (side == "publish" and subject in PUBLISHED)
    ][share::SHARES]
    parts = [without(claims, *each) for each in taken]
    accounts = [users(f"{name}{number}", part) for name in TRIES for number, part in enumerate(parts)]
    server = make_server("accounts {\n" + "".join(accounts) + "}\n")
    broken: dict[int, str] = {}
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def one(name: str, number: int) -> None:
        async with limit:
            patience = 1.0 if name == TRIES[0] else 5.0
            life = Life(forks, server, f"{name}{number}", project, later, patience=patience)
            try:
                async with RawJetStream.connect(life.url("all")) as raw:
                    await live(life, raw)
            except Broken as error:
                broken[number] = str(error)
            finally:
                life.end()

    left = list(range(len(taken)))
    for name in TRIES:
        async with anyio.create_task_group() as tasks:
            for number in left:
                tasks.start_soon(one, name, number)
        refused = violations(server)
        asked = {
            number
            for number in left
            for role, side, subject in (taken[number],)
            if any(covers(subject, each) for each in refused[f"{name}{number}", role, side])
        }
        # On a busy machine something else may be late, and break first.
        left = [number for number in left if number not in asked and taken[number][::2] not in LESS]
    told = [f"{taken[number]} was not asked for: {broken.get(number)}" for number in left]
    assert not left, "\n".join([f"share {share}:", *told])
    unbroken = [each for number, each in enumerate(taken) if number not in broken and each[::2] not in LESS]
    assert not unbroken, "\n".join([f"share {share}:", *map(str, unbroken)])
