"""Declared streams on a real server: planned, applied, refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from runner import Context, consume
from runner.bindings import Binding, binding_of
from runner.config import Settings
from runner.core.streams.plan import Plan
from runner.errors import JetrunnerError, NoStream, ServerError
from runner.jetstream.connection import Connection, connect
from runner.jetstream.inventory import real_streams
from runner.jetstream.ownstreams import ensure_all
from runner.streams.consumers import plan_consumers, uncaptured
from runner.streams.plan import apply_streams, load_streams, plan_streams, subjects_of_streams
from tests.support.cluster import Cluster
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer, version

pytestmark = pytest.mark.anyio

ORDERS = 'name = "ORDERS"\nsubjects = ["orders.{customer}.*"]\n'
MINUTE = 60 * 10**9


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect(Settings(nats_url=nats_server.url)) as live:
        yield live


@pytest.fixture
def declare(tmp_path: Path) -> Callable[..., Any]:
    """Write these stream files, and no others, and load them."""

    def load(**files: str) -> Any:
        folder = tmp_path / "project" / "streams"
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for name, text in files.items():
            (folder / f"{name}.toml").write_text(text)
        return load_streams(tmp_path / "project")

    return load


def actions(plan: Plan) -> dict[str, str]:
    return {stream.name: stream.action for stream in plan.streams}


def reasons(plan: Plan) -> str:
    return "\n".join(change.why for stream in plan.refused for change in stream.changes)


async def test_a_declared_stream_is_created_and_then_nothing_is_left_to_do(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    declared = declare(orders=ORDERS + 'max_age = "7d"\nmax_bytes = "1MiB"\nmetadata = { team = "sales" }')
    assert actions(await plan_streams(connection, declared)) == {"ORDERS": "create"}
    assert await js.streams() == []  # planning creates nothing

    assert actions(await apply_streams(connection, declared)) == {"ORDERS": "create"}
    config = (await js.stream("ORDERS"))["config"]
    assert config["subjects"] == ["orders.*.*", "_jetrunner.ORDERS.>"]
    assert config["max_age"] == 7 * 24 * 60 * MINUTE
    assert config["max_bytes"] == 2**20
    assert (config["storage"], config["retention"]) == ("file", "limits")
    assert (config["allow_atomic"], config["allow_direct"]) == (True, True)
    assert config["duplicate_window"] == 15 * MINUTE

    assert actions(await plan_streams(connection, declared)) == {"ORDERS": "same"}
    assert actions(await apply_streams(connection, declared)) == {"ORDERS": "same"}


EVERYTHING = """
name = "ALL"
description = "every field at once"
subjects = ["in.{a}.*"]
retention = "limits"
storage = "file"
num_replicas = 1
max_msgs = 1000
max_bytes = "1MiB"
max_age = "1h"
max_msg_size = "1KiB"
max_msgs_per_subject = 10
max_consumers = 5
discard = "old"
discard_new_per_subject = false
duplicate_window = "30m"
compression = "s2"
allow_direct = true
mirror_direct = false
allow_atomic = true
allow_batched = true
allow_msg_ttl = true
allow_rollup_hdrs = true
deny_delete = true
deny_purge = false
no_ack = false
persist_mode = "default"
first_seq = 100
subject_delete_marker_ttl = "1m"
consumer_limits = { inactive_threshold = "1h", max_ack_pending = 100 }
metadata = { team = "sales" }
placement = { tags = [] }
republish = { src = "in.>", dest = "seen.>", headers_only = true }
subject_transform = { src = "in.*.*", dest = "by.{{wildcard(2)}}.{{wildcard(1)}}" }

[[sources]]
name = "OTHER"
filter_subject = "other.{a}"
opt_start_time = 2026-01-31T12:00:00.500+02:00

[[sources]]
name = "AGAIN"
subject_transforms = [{ src = "$KV.a.*", dest = "again.{{wildcard(1)}}" }]
"""
SCHEDULES = 'name = "LATER"\nsubjects = ["later.>"]\nallow_msg_schedules = true\nallow_msg_counter = false'
COUNTER = 'name = "COUNT"\nsubjects = ["count.>"]\nallow_msg_counter = true'
ASYNC = 'name = "FAST"\nsubjects = ["fast.>"]\npersist_mode = "async"'
WORK = 'name = "WORK"\nsubjects = ["work.>"]\nretention = "workqueue"\nstorage = "memory"\ndiscard = "new"'
COPY = 'name = "COPY"\nmirror = { name = "OTHER", opt_start_seq = 5 }'


async def test_every_field_stands_on_the_server_as_declared(connection: Connection, declare: Any) -> None:
    everything = EVERYTHING if version() >= (2, 14) else EVERYTHING.replace("allow_batched = true\n", "")
    declared = declare(all=everything, later=SCHEDULES, count=COUNTER, fast=ASYNC, work=WORK, copy=COPY)
    await apply_streams(connection, declared)
    assert set(actions(await plan_streams(connection, declared)).values()) == {"same"}


async def test_a_safe_change_is_applied_and_what_the_file_does_not_name_stays(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    await js.create("ORDERS", ["orders.*.*"], max_msgs=500, description="by hand")
    for _ in range(3):
        await js.publish("orders.a.created", b"{}")
    plan = await apply_streams(connection, declare(orders=ORDERS + 'compression = "s2"'))
    assert {change.field for change in plan.streams[0].changes} == {
        "compression",
        "allow_atomic",
        "allow_direct",
        "duplicate_window",
    }
    info = await js.stream("ORDERS")
    assert info["config"]["compression"] == "s2"
    assert (info["config"]["max_msgs"], info["config"]["description"]) == (500, "by hand")
    assert info["state"]["messages"] == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('storage = "memory"', "cannot change the storage"),
        ('retention = "workqueue"', "retention decides"),
        ("max_msgs = 2", "1 of 3 messages are over it"),
        ('max_bytes = "60B"', "are over it"),
        ("max_msgs_per_subject = 1", "one subject holds 2 messages"),
        ("max_msg_size = 4", "3 messages came in under the larger limit"),
    ],
)
async def test_an_unsafe_change_is_refused_and_nothing_else_is_applied(
    connection: Connection, js: RawJetStream, declare: Any, line: str, reason: str
) -> None:
    await apply_streams(connection, declare(orders=ORDERS))
    for subject in ("orders.a.created", "orders.a.created", "orders.b.created"):
        await js.publish(subject, b"{}")
    declared = declare(orders=ORDERS + line, fresh='name = "FRESH"\nsubjects = ["fresh"]')
    plan = await plan_streams(connection, declared)
    assert actions(plan) == {"FRESH": "create", "ORDERS": "refuse"}
    assert reason in reasons(plan)
    with pytest.raises(JetrunnerError, match=reason):
        await apply_streams(connection, declared)
    assert await js.streams() == ["ORDERS"]
    assert await js.count("ORDERS") == 3


async def test_a_subject_that_holds_messages_is_not_taken_away(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    await apply_streams(connection, declare(orders='name = "ORDERS"\nsubjects = ["orders.>"]'))
    await js.publish("orders.a.created", b"{}")
    narrower = declare(orders='name = "ORDERS"\nsubjects = ["orders.a.>"]')
    assert actions(await plan_streams(connection, narrower)) == {"ORDERS": "update"}
    await js.publish("orders.b.created", b"{}")
    assert "1 message on orders.b.created" in reasons(await plan_streams(connection, narrower))


async def test_a_subject_that_a_consumer_reads_is_not_taken_away(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    await apply_streams(connection, declare(orders='name = "ORDERS"\nsubjects = ["orders.>"]'))
    await durable(js, "ORDERS", "shop-charge", "orders.b.*")
    narrower = declare(orders='name = "ORDERS"\nsubjects = ["orders.a.>"]')
    assert "consumer shop-charge reads orders.>" in reasons(await plan_streams(connection, narrower))


async def test_a_subject_that_moves_between_two_files_moves(connection: Connection, declare: Any) -> None:
    await apply_streams(connection, declare(orders='name = "ORDERS"\nsubjects = ["orders.>", "refunds.>"]'))
    moved = declare(
        orders='name = "ORDERS"\nsubjects = ["orders.>"]', a='name = "A"\nsubjects = ["refunds.>"]'
    )
    assert actions(await apply_streams(connection, moved)) == {"A": "create", "ORDERS": "update"}


async def test_a_subject_of_somebody_elses_stream_is_refused(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    await js.create("THEIRS", ["orders.eu.>"])
    plan = await plan_streams(connection, declare(orders=ORDERS))
    assert actions(plan) == {"ORDERS": "refuse"}
    assert 'the stream THEIRS captures "orders.eu.>" already' in reasons(plan)


async def test_what_only_the_server_can_refuse_names_the_file(connection: Connection, declare: Any) -> None:
    declared = declare(orders=ORDERS + "num_replicas = 3")
    with pytest.raises(
        ServerError, match=r"streams/orders.toml: the server refuses the stream ORDERS: .*replicas"
    ) as caught:
        await apply_streams(connection, declared)
    assert "fewer replicas" in caught.value.hint


async def durable(js: RawJetStream, stream: str, name: str, subject: str, **fields: Any) -> None:
    config = {
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        "filter_subject": subject,
        **fields,
    }
    await js.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})


@consume("orders.{customer}.created", output="orders.{customer}.charged")
async def charge(order: dict[str, Any], customer: str, ctx: Context) -> None:
    """Reads orders."""


@consume("order.{customer}.created", output="payments.{customer}")
async def misspelt(order: dict[str, Any], customer: str) -> None:
    """Reads nothing."""


def bound(*functions: Any) -> list[Binding]:
    found = [binding_of(function) for function in functions]
    return [binding for binding in found if binding is not None]


async def test_durables_are_planned_and_strays_are_shown_with_what_they_hold(
    connection: Connection, js: RawJetStream, declare: Any
) -> None:
    declared = declare(orders=ORDERS)
    await apply_streams(connection, declared)
    streams = subjects_of_streams(declared, await real_streams(connection))
    assert uncaptured(bound(charge), streams) == []
    plans = await plan_consumers(connection, "shop", bound(charge), streams)
    assert [(plan.name, plan.stream, plan.action) for plan in plans] == [("shop-charge", "ORDERS", "create")]

    await durable(js, "ORDERS", "shop-charge", "orders.*.created", deliver_policy="new")
    await durable(js, "ORDERS", "shop-gone", "orders.*.*")
    await durable(js, "ORDERS", "shop-eu-charge", "orders.*.*")
    for _ in range(2):
        await js.publish("orders.a.created", b"{}")
    mine, stray = await plan_consumers(connection, "shop", bound(charge), streams)
    assert mine.action == "update"
    assert {change.field: change.safety for change in mine.changes} == {
        "deliver_policy": "unsafe",
        "max_waiting": "unsafe",
        "ack_wait": "safe",
        "max_ack_pending": "safe",
        "metadata": "safe",
    }
    assert (stray.name, stray.function, stray.action, stray.pending) == ("shop-gone", "gone", "stray", 2)
    assert "`runner function forget gone` removes what is left of it" in stray.note
    assert await js.consumers("ORDERS") == ["shop-charge", "shop-eu-charge", "shop-gone"]


async def test_a_function_that_no_stream_feeds_is_told_where_to_look(
    connection: Connection, declare: Any
) -> None:
    streams = subjects_of_streams(declare(orders=ORDERS), await real_streams(connection))
    subject, output = uncaptured(bound(charge, misspelt), streams)
    assert isinstance(subject, NoStream)
    assert "misspelt: no stream captures order.*.created" in str(subject)
    assert __file__ in str(subject)
    assert "streams/orders.toml" in subject.hint
    assert "misspelt: its output: no stream captures payments.*" in str(output)
    assert "streams/payments.toml" in output.hint


async def test_a_function_may_read_dead_letters_before_there_are_any(
    connection: Connection, declare: Any
) -> None:
    @consume("deadletters.shop.{function}")
    async def mourn(letter: bytes, function: str) -> None:
        """Reads what could not be helped."""

    streams = subjects_of_streams(declare(), await real_streams(connection))
    assert uncaptured(bound(mourn), streams) == []


async def test_a_replicated_stream_is_created_repeated_and_never_thinned(
    cluster: Cluster, declare: Any
) -> None:
    async with connect(Settings(nats_url=cluster.url)) as connection:
        three = declare(orders=ORDERS + "num_replicas = 3")
        assert actions(await apply_streams(connection, three)) == {"ORDERS": "create"}
        assert actions(await plan_streams(connection, three)) == {"ORDERS": "same"}
        one = declare(orders=ORDERS + "num_replicas = 1")
        assert "fewer than 3 replicas" in reasons(await plan_streams(connection, one))


async def test_too_few_servers_for_the_replicas_are_named_with_the_stream(
    cluster: Cluster, declare: Any
) -> None:
    async with connect(Settings(nats_url=cluster.url)) as connection:
        with pytest.raises(
            ServerError, match=r"JETRUNNER with 5 replicas cannot be created: no .*peers"
        ) as own:
            await ensure_all(connection, replicas=5)
        with pytest.raises(ServerError, match=r"orders.toml: .* the stream ORDERS: no .*peers") as declared:
            await apply_streams(connection, declare(orders=ORDERS + "num_replicas = 5"))
    assert "start the other servers" in own.value.hint
    assert declared.value.hint == own.value.hint
