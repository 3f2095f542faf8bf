"""Sharded streams on a real server: declared, read without order, changed only when nothing is lost."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from runner.config import Settings
from runner.core.sharding import Sharding, read
from runner.core.streams.plan import Plan, StreamPlan
from runner.errors import JetrunnerError
from runner.jetstream.connection import Connection, connect
from runner.streams.plan import apply_streams, load_streams, plan_streams
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer, version

pytestmark = [pytest.mark.server, pytest.mark.anyio]

PLAIN = 'name = "LEDGER"\nsubjects = ["ledger.{account}.*"]\n'
SHARDED = PLAIN + '[shards]\ncount = 4\nby = ["account"]\n'
SEEN = """
    from journal import note
    from runner import Context, Reject, consume

    @consume("ledger.{account}.paid")
    async def book(body: bytes, account: str, ctx: Context) -> None:
        note("book", subject=ctx.subject, account=account, sequence=ctx.sequence, headers=dict(ctx.headers))
        if body == b"bad":
            raise Reject("bad")
"""


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        yield live


@pytest.fixture
def declare(tmp_path: Path) -> Callable[[str], Any]:
    """Write this stream file in the place of the last one, and load it."""

    def load(text: str) -> Any:
        folder = tmp_path / "declared" / "streams"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ledger.toml").write_text(text)
        return load_streams(tmp_path / "declared")

    return load


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(functions={"ledger": SEEN}, nats=nats_server.url)


def only(plan: Plan) -> StreamPlan:
    (stream,) = plan.streams
    return stream


async def durable(js: RawJetStream, name: str, subject: str = "ledger.*.paid") -> None:
    config = {"durable_name": name, "name": name, "ack_policy": "explicit", "filter_subject": subject}
    await js.api(f"CONSUMER.CREATE.LEDGER.{name}", {"stream_name": "LEDGER", "config": config})


async def sharding(js: RawJetStream, stream: str = "LEDGER") -> Sharding | None:
    return read((await js.stream(stream))["config"])


async def resized(js: RawJetStream, generation: int, count: int, stream: str = "LEDGER") -> None:
    """What a resize does to the stream."""
    config = (await js.stream(stream))["config"]
    dest = config["subject_transform"]["dest"].split(".")
    config["subject_transform"]["dest"] = ".".join(
        ["shard", str(generation), f"{{{{partition({count},1)}}}}", *dest[3:]]
    )
    await js.api(f"STREAM.UPDATE.{stream}", config)


async def noted(project: Project, count: int) -> list[dict[str, Any]]:
    await eventually(lambda: len(project.journal("book")) >= count)
    return project.journal("book")


async def test_a_declared_stream_stores_its_messages_by_shard_and_then_nothing_is_left_to_do(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    await apply_streams(connection, declare(SHARDED))
    assert await sharding(js) == Sharding(1, 4, (1,))
    for account in ("anna", "bert", "größe"):
        await js.publish(f"ledger.{account}.paid")
    for message in await js.messages("LEDGER"):
        first, generation, shard, *original = message.subject.split(".")
        expected = Sharding(1, 4, (1,)).shard_of(".".join(original))
        assert (first, generation, shard) == ("shard", "1", str(expected))
    assert only(await plan_streams(connection, declare(SHARDED))).action == "same"


async def test_the_generation_is_the_servers_and_the_count_is_changed_by_a_resize_alone(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    await apply_streams(connection, declare(SHARDED))
    await resized(js, generation=3, count=4)
    assert only(await plan_streams(connection, declare(SHARDED))).action == "same"
    await resized(js, generation=4, count=8)
    with pytest.raises(
        JetrunnerError, match=r"`runner shard resize LEDGER 4`, or go back to count = 8"
    ) as told:
        await apply_streams(connection, declare(SHARDED))
    assert told.value.hint == "", "the sentence says what to do"
    await js.publish("ledger.anna.paid", b"too large")
    with pytest.raises(JetrunnerError, match="resize LEDGER 4") as told:
        await apply_streams(connection, declare("max_msg_size = 4\n" + SHARDED))
    assert told.value.hint.startswith("take max_msg_size back in the file, or make a new stream; ")
    assert await sharding(js) == Sharding(4, 8, (1,))


async def test_a_sharded_stream_takes_more_subjects_and_lets_none_go_that_holds_messages(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    two = SHARDED.replace('.*"]', '.*", "bank.{account}.*"]')
    await apply_streams(connection, declare(SHARDED))
    await js.publish("ledger.anna.paid")
    await resized(js, generation=2, count=4)
    await apply_streams(connection, declare(two))
    assert await sharding(js) == Sharding(2, 4, (1,))
    await js.publish("bank.anna.paid")
    shards = [message.subject.split(".")[2] for message in await js.messages("LEDGER")]
    assert shards[0] == shards[1]
    (change, *_) = only(await plan_streams(connection, declare(SHARDED))).changes
    assert (change.field, change.safety) == ("subjects", "unsafe")
    assert "1 message on bank.anna.paid" in change.why


async def test_shards_are_not_added_where_somebody_else_reads(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    await apply_streams(connection, declare(PLAIN))
    await durable(js, "reports")
    with pytest.raises(JetrunnerError, match="consumer reports is not this project's"):
        await apply_streams(connection, declare(SHARDED), "shop")
    assert await sharding(js) is None


async def test_shards_are_not_added_while_a_runner_reads(
    connection: Connection, js: RawJetStream, declare: Any, project: Project
) -> None:
    await apply_streams(connection, declare(PLAIN))
    project.start("run")
    await js.publish("ledger.anna.paid", b"1")
    await noted(project, 1)
    with pytest.raises(
        JetrunnerError, match="read with the consumer shop-book right now: stop all that read LEDGER"
    ):
        await apply_streams(connection, declare(SHARDED), "shop")
    assert await sharding(js) is None


async def test_no_message_is_passed_over_when_shards_are_added(
    connection: Connection, js: RawJetStream, declare: Any, project: Project
) -> None:
    await apply_streams(connection, declare(PLAIN))
    await durable(js, "shop-book")
    await durable(js, "shop-ordered-0-0")
    await js.publish("ledger.anna.paid", b"before")
    plan = await apply_streams(connection, declare(SHARDED), "shop")
    assert "what is stored already (1 message) is generation 0" in only(plan).changes[0].why
    await js.publish("ledger.bert.paid", b"after")
    await js.publish("ledger.carl.refused", b"of no interest")
    filters = (await js.consumer("LEDGER", "shop-book"))["config"]["filter_subjects"]
    assert sorted(filters) == ["ledger.*.paid", "shard.*.*.ledger.*.paid"]
    assert (await js.consumer("LEDGER", "shop-ordered-0-0"))["config"]["filter_subject"] == "ledger.*.paid"
    project.start("run")
    notes = await noted(project, 2)
    assert [note["subject"] for note in notes] == ["ledger.anna.paid", "ledger.bert.paid"]
    await eventually(lambda: js.settled("LEDGER", "shop-book"))


async def test_a_function_that_keeps_no_order_and_its_dead_letters_see_the_original_subject(
    connection: Connection, js: RawJetStream, declare: Any, project: Project
) -> None:
    await apply_streams(connection, declare(SHARDED))
    project.start("run")
    for number, generation in enumerate((1, 2)):
        await js.publish(f"ledger.a{number}.paid", b"bad")
        await resized(js, generation + 1, count=2)
    notes = await noted(project, 2)
    assert sorted((note["subject"], note["account"]) for note in notes) == [
        ("ledger.a0.paid", "a0"),
        ("ledger.a1.paid", "a1"),
    ]
    await eventually(lambda: _counted(js, "DEADLETTERS", 2))
    subjects = [letter.headers["Jetrunner-Dead-Subject"] for letter in await js.messages("DEADLETTERS")]
    assert sorted(subjects) == ["ledger.a0.paid", "ledger.a1.paid"]


async def test_a_key_that_would_stand_in_several_shards_is_refused_before_anything_runs(
    connection: Connection, declare: Any, project: Project
) -> None:
    project.stream("ledger", SHARDED)
    project.function(
        "ledger",
        """
        from runner import consume

        @consume("ledger.{account}.{kind}", ordered_by="kind")
        async def book(body: bytes) -> None: ...
        """,
    )
    await apply_streams(connection, declare(SHARDED))
    for command in ("check", "plan", "run"):
        done = project.runner(command)
        assert done.code in (1, 2), done.stderr
        assert "book: " in done.stderr
        assert "is sharded by token 2 of its subjects, {account} here" in done.stderr
        assert "hint: ordered_by=('kind', 'account')" in done.stderr


COPY = """
name = "COPY"
source = "LEDGER"
subjects = ["ledger.{account}.paid", "ledger.{account}.*.twice"]
[shards]
count = 4
by = ["account"]
"""


async def test_another_stream_is_sharded_by_copying_it_whole_headers_and_ids_included(
    connection: Connection, js: RawJetStream, declare: Any, project: Project
) -> None:
    """nats-server 2.12 leaves out of a copy what has the id of an earlier message: there the ids are two."""
    again = "mine" if version() >= (2, 14) else "another"
    await js.create("LEDGER", ["ledger.>"], duplicate_window=100_000_000)
    await js.publish("ledger.anna.refused", b"not copied")
    await js.publish("ledger.anna.paid", b"1", {"Nats-Msg-Id": "mine", "Tenant": "a"})
    await anyio.sleep(0.2)  # the other stream forgets the id, and takes it again

    async def is_stored() -> bool:  # a server that stood still may know the id for a moment longer
        return await js.publish("ledger.anna.paid", b"2", {"Nats-Msg-Id": again}) > 2

    await eventually(is_stored)
    await js.publish("ledger.anna.closed.twice", b"3")
    assert only(await apply_streams(connection, declare(COPY))).action == "create"
    await eventually(lambda: _counted(js, "COPY", 3))
    copies = await js.messages("COPY")
    shard = Sharding(1, 4, (1,)).shard_of("ledger.anna.paid")
    assert [(copy.sequence, copy.subject, copy.body) for copy in copies] == [
        (1, f"shard.1.{shard}.ledger.anna.paid", b"1"),
        (2, f"shard.1.{shard}.ledger.anna.paid", b"2"),
        (3, f"shard.1.{shard}.ledger.anna.closed.twice", b"3"),
    ]
    assert (copies[0].headers["Nats-Msg-Id"], copies[0].headers["Tenant"]) == ("mine", "a")
    assert copies[0].headers["Nats-Stream-Source"].startswith("LEDGER 2 ")
    assert only(await plan_streams(connection, declare(COPY))).action == "same"

    project.function("ledger", SEEN.replace('.paid"', '.paid", stream="COPY"'))
    project.start("run")
    notes = await noted(project, 2)
    assert [(note["subject"], note["sequence"]) for note in notes] == [
        ("ledger.anna.paid", 1),
        ("ledger.anna.paid", 2),
    ]


async def test_a_copy_goes_on_where_it_was_after_a_resize_and_a_killed_server(
    connection: Connection, js: RawJetStream, declare: Any, nats_server: NatsServer
) -> None:
    await js.create("LEDGER", ["ledger.>"])
    await apply_streams(connection, declare(COPY))
    await js.publish("ledger.anna.paid", b"1")
    await eventually(lambda: _counted(js, "COPY", 1))
    await resized(js, generation=2, count=8, stream="COPY")
    assert await sharding(js, "COPY") == Sharding(2, 8, (1,))
    await js.publish("ledger.anna.paid", b"2")
    await eventually(lambda: _counted(js, "COPY", 2))
    await anyio.to_thread.run_sync(lambda: nats_server.restart(kill=True))
    await js.publish("ledger.anna.paid", b"3")
    await eventually(lambda: _counted(js, "COPY", 3))
    copies = await js.messages("COPY")
    assert [(copy.subject.split(".")[1], copy.body) for copy in copies] == [
        ("1", b"1"),
        ("2", b"2"),
        ("2", b"3"),
    ]


async def test_a_copy_that_would_take_other_subjects_is_refused_because_it_would_start_anew(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    await js.create("LEDGER", ["ledger.>"])
    await js.publish("ledger.anna.paid", b"1")
    await apply_streams(connection, declare(COPY))
    await eventually(lambda: _counted(js, "COPY", 1))
    wider = COPY.replace(".paid", ".*")
    with pytest.raises(JetrunnerError, match="the server would copy LEDGER again from its beginning"):
        await apply_streams(connection, declare(wider))
    # What is refused is what the server does:
    config = (await js.stream("COPY"))["config"]
    config["sources"][0]["subject_transforms"][0]["src"] = "ledger.*.*"
    await js.api("STREAM.UPDATE.COPY", config)
    await eventually(lambda: _counted(js, "COPY", 2))
    assert [copy.body for copy in await js.messages("COPY")] == [b"1", b"1"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (None, "there is no stream LEDGER"),
        ({"retention": "workqueue"}, "copying would take its messages from their readers"),
        ({"subjects": ["ledger.*.paid"]}, 'LEDGER does not hold "ledger.*.*.twice"'),
    ],
)
async def test_a_stream_that_cannot_be_copied_is_refused(
    connection: Connection, js: RawJetStream, declare: Any, fields: dict[str, Any] | None, why: str
) -> None:
    if fields is not None:
        await js.create("LEDGER", **{"subjects": ["ledger.>"], **fields})
    with pytest.raises(JetrunnerError, match=re.escape(why)):
        await apply_streams(connection, declare(COPY))
    assert "COPY" not in await js.streams()


async def test_a_function_that_keeps_order_says_whether_it_reads_the_copy(
    connection: Connection, js: RawJetStream, declare: Any, project: Project
) -> None:
    await js.create("LEDGER", ["ledger.>"])
    await apply_streams(connection, declare(COPY))
    project.stream("copy", COPY)
    ordered = SEEN.replace('.paid"', '.paid", ordered_by="account"')
    project.function("ledger", ordered)
    done = project.runner("plan")
    assert done.code == 2
    assert "LEDGER is not sharded, but COPY (streams/copy.toml) is" in done.stderr
    assert 'hint: choose one: stream="COPY" or stream="LEDGER"' in done.stderr
    project.function("ledger", ordered.replace("ordered_by", 'stream="COPY", ordered_by'))
    assert "+ consumer shop-book-* on COPY" in project.runner("plan").stdout


async def _counted(js: RawJetStream, stream: str, count: int) -> bool:
    return await js.count(stream) >= count
