"""Promise 2: a key whose handler does not end keeps its own messages waiting, in order, and nobody else's."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from runner.core.identity import shard_durable
from runner.jetstream.ownstreams import BUCKET_STREAM
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.ledger import streams
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WAITING = 9_000
LEDGER = """
import asyncio
import os
from functools import partial
from pathlib import Path

from runner import Context, consume

ROOT = Path(__file__).parents[1]
DONE = os.open(ROOT / "done", os.O_APPEND | os.O_WRONLY | os.O_CREAT)

@consume("ledger.{account}.posted", ordered_by="account", timeout=600)
async def post(body: bytes, account: str, ctx: Context) -> None:
    while account == "ada" and not (ROOT / "go").exists():
        await asyncio.sleep(0.02)
    os.write(DONE, f"{account} {body[:10].decode()} {ctx.headers.get('Tenant', '-')} {len(body)}\\n".encode())
"""
DURABLE = shard_durable("shop", "post", 1, 0)


async def opened(make_project: Callable[..., Project], url: str) -> Project:
    """A ledger with one shard, whose key `ada` waits for the file `go`."""
    project = make_project(functions={"ledger": LEDGER}, streams=streams(1), nats=url)
    await project.applied()
    return project


def done(root: Path, account: str) -> list[tuple[int, str, int]]:
    """Number, tenant and length of the account's messages, in the order they were done."""
    found = []
    for line in (root / "done").read_text().splitlines() if (root / "done").exists() else ():
        name, number, tenant, length = line.split()
        if name == account:
            found.append((int(number), tenant, int(length)))
    return found


def count(root: Path, account: str) -> int:
    """How many of the account's messages were done."""
    file = root / "done"
    return file.read_bytes().count(f"{account} ".encode()) if file.exists() else 0


async def test_nine_thousand_messages_behind_one_that_blocks_keep_no_other_key_waiting(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url)
    for number in range(WAITING):
        await js.client.publish("ledger.ada.posted", b"%d" % number)
    await js.client.flush()
    project.start("run")

    async def here() -> bool:
        return int((await js.consumer("LEDGER", DURABLE))["num_ack_pending"]) == WAITING

    await eventually(here)
    for number in range(200):
        await js.publish("ledger.bob.posted" if number % 2 else f"ledger.k{number}.posted", b"%d" % number)
    await eventually(lambda: count(project.root, "bob") == 100)
    await eventually(lambda: count(project.root, "k198"))
    assert not count(project.root, "ada")
    (project.root / "go").touch()
    await eventually(
        lambda: count(project.root, "ada") >= WAITING, within=120
    )  # one by one: each waits for its turn on a busy machine
    assert [number for number, _, _ in done(project.root, "ada")] == list(range(WAITING))
    assert [number for number, _, _ in done(project.root, "bob")] == list(range(1, 200, 2))
    await eventually(lambda: js.settled("LEDGER", DURABLE))


BUDGET = 1_000_000
LARGE = 100_000


async def large(js: RawJetStream, account: str, number: int) -> int:
    headers = {"Tenant": f"t{number}"} if number % 3 else None
    return await js.publish(f"ledger.{account}.posted", b"%-10d" % number + b"x" * LARGE, headers)


def has_done(project: Project, number: int) -> bool:
    return count(project.root, "ada") >= number


def expected(number: int) -> tuple[int, str, int]:
    return number, f"t{number}" if number % 3 else "-", LARGE + 10


def resident(process: RunnerProcess) -> int:
    """Bytes of memory that the process has."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def held(js: RawJetStream, number: int) -> bool:
    return int((await js.consumer("LEDGER", DURABLE))["num_ack_pending"]) == number


async def test_large_bodies_that_wait_are_fetched_again_whole_and_in_order(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """Also those that wait behind the barrier of the next owner, of many keys at once."""
    project = await opened(make_project, nats_server.url)
    project.function("budget", f"from runner.ordered import spill\nspill.BUDGET_BYTES = {BUDGET}\n")
    first = project.start("run")
    await eventually(lambda: js.consumer("LEDGER", DURABLE))
    before = resident(first)
    for number in range(400):
        await large(js, "ada", number)
    await eventually(lambda: held(js, 400), within=60)
    assert resident(first) < before + 25_000_000, "the messages have 40 MB"
    first.kill()
    second = project.start("run")
    for number in range(400, 800):
        await large(js, f"k{number}" if number % 2 else "ada", number)
    await eventually(lambda: count(project.root, "k799"), within=60)
    assert not count(project.root, "ada")
    await eventually(lambda: held(js, 600))
    assert resident(second) < before + 25_000_000
    (project.root / "go").touch()
    await eventually(lambda: count(project.root, "ada") >= 600)
    assert done(project.root, "ada") == [expected(n) for n in range(800) if n < 400 or not n % 2]
    for number in range(401, 800, 2):
        assert done(project.root, f"k{number}") == [expected(number)]
    assert not first.output.count("Traceback") + second.output.count("Traceback")


async def test_a_message_removed_while_it_waited_without_its_body_keeps_nobody_waiting(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url)
    project.function("budget", f"from runner.ordered import spill\nspill.BUDGET_BYTES = {BUDGET}\n")
    runner = project.start("run")
    sequences = [await large(js, "ada", number) for number in range(60)]
    await eventually(lambda: held(js, 60))
    for sequence in sequences[40:50]:
        await js.api("STREAM.MSG.DELETE.LEDGER", {"seq": sequence})
    (project.root / "go").touch()
    await eventually(lambda: count(project.root, "ada") >= 50)
    assert done(project.root, "ada") == [expected(number) for number in (*range(40), *range(50, 60))]
    assert runner.output.count("was removed before its turn came") == 10
    await eventually(lambda: js.settled("LEDGER", DURABLE))


async def test_bodies_that_wait_are_fetched_from_a_server_that_is_killed_meanwhile(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url)
    project.function("budget", f"from runner.ordered import spill\nspill.BUDGET_BYTES = {BUDGET}\n")
    project.start("run")
    for number in range(300):
        await large(js, "ada", number)
    await eventually(lambda: held(js, 300))
    (project.root / "go").touch()
    for reached in (50, 150):
        await eventually(partial(has_done, project, reached))
        nats_server.restart(kill=True)
    await eventually(lambda: count(project.root, "ada") >= 300)
    assert done(project.root, "ada") == [expected(number) for number in range(300)]


async def test_a_long_lane_that_moves_is_filled_up_by_the_part(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    """A request for each message that is settled would cost the server more than the messages; none is dropped and read again."""
    project = await opened(make_project, nats_server.url)
    project.function("budget", "from runner.ordered import pull\npull.HELD_LIMIT = 200\n")
    (project.root / "go").touch()
    for number in range(2_000):
        await js.client.publish("ledger.ada.posted", b"%d" % number)
    asked: list[str] = []

    async def noted(message: Msg) -> None:
        asked.append(message.subject)

    await js.client.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.LEDGER.{DURABLE}", cb=noted)
    await js.client.subscribe("$JS.API.STREAM.MSG.GET.LEDGER", cb=noted)
    await js.client.flush()
    project.start("run")
    await eventually(lambda: count(project.root, "ada") == 2_000)
    assert [number for number, _, _ in done(project.root, "ada")] == list(range(2_000))
    assert 10 < len(asked) < 200, "2,000 messages in parts of a hundred"


async def test_a_shard_is_taken_over_with_more_unsettled_messages_than_it_may_hold(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = await opened(make_project, nats_server.url)
    project.function("limits", "from runner.ordered import pull\n\npull.HELD_LIMIT, pull.PART = 20, 5\n")
    first = project.start("run")
    await eventually(lambda: js.consumer("LEDGER", DURABLE))
    first.terminate()
    assert await first.ended() == 0
    for number in range(40):
        await js.publish("ledger.bob.posted", b"%d" % number)
    # An owner that was given more, because the server has answered requests that it had written off, too.
    inbox = js.client.new_inbox()
    taken = await js.client.subscribe(inbox)
    ask = b'{"batch":40,"expires":5000000000}'
    await js.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.LEDGER.{DURABLE}", ask, reply=inbox)
    await eventually(lambda: held(js, 40))
    await taken.unsubscribe()
    project.start("run")
    await eventually(lambda: count(project.root, "bob") == 40)
    assert [number for number, _, _ in done(project.root, "bob")] == list(range(40))


RESTS = (
    LEDGER.replace("import Context, consume", "import Context, RetryPolicy, consume")
    .replace("timeout=600)", "timeout=600, concurrency=64, retry=RetryPolicy.fixed(600, attempts=3))")
    .replace(
        """    while account == "ada" and not (ROOT / "go").exists():""",
        """    if account.startswith("bad"):
        raise ValueError("not now")
    while not (ROOT / ("good" if account.startswith("good") else "go")).exists():""",
    )
)


async def test_messages_that_wait_for_their_retry_keep_no_others_from_being_fetched_again(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(functions={"ledger": RESTS}, streams=streams(1), nats=nats_server.url)
    project.function("budget", f"from runner.ordered import spill\n\nspill.BUDGET_BYTES = {BUDGET}\n")
    await project.applied()
    first = project.start("run")
    bad, good = [[f"{kind}{number}" for number in range(many)] for kind, many in (("bad", 8), ("good", 24))]
    names = ["ada"] * 20 + bad + good + ["eve"] * 10
    for number, name in enumerate(names):
        await large(js, name, number)

    async def recorded() -> bool:
        info = await js.stream(BUCKET_STREAM, subjects_filter="$KV.jetrunner.failures.>")
        return len(info["state"].get("subjects") or {}) == len(bad)

    await eventually(lambda: held(js, len(names)))
    await eventually(recorded)
    first.kill()
    (project.root / "good").touch()
    project.start("run")
    await eventually(lambda: all(count(project.root, name) for name in good))
