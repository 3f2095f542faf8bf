"""What outputs, leases, delays and reads lean on: what one server stores, refuses, forgets and answers."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.server.conforming import answer, answers, batch, code, fence, revision
from tests.support.eventually import eventually
from tests.support.jetstream import ApiError, RawJetStream

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FENCE = "_jetrunner.OUT.p.f.1.0"


@pytest.fixture
async def fenced(js: RawJetStream) -> dict[str, str]:
    """Stream `OUT` with a fence, and the headers of its owner."""
    await js.create("OUT", ["out.>", "_jetrunner.OUT.>"], allow_atomic=True, duplicate_window=60 * 10**9)
    return fence(FENCE, await js.publish(FENCE))


async def test_an_output_may_expect_the_last_sequence_of_another_subject_of_its_stream(
    fenced: dict[str, str], js: RawJetStream
) -> None:
    assert code(await answer(js, "out.a", fenced)) == 0
    assert code(await answer(js, "out.b", fenced)) == 0
    await js.publish(FENCE)
    refused = await answer(js, "out.a", fenced)
    assert code(refused) == 10071
    assert await js.count("OUT") == 4


async def test_a_fence_that_is_gone_refuses_whoever_expects_it(
    fenced: dict[str, str], js: RawJetStream
) -> None:
    await js.api("STREAM.PURGE.OUT", {"filter": FENCE})
    assert code(await answer(js, "out.a", fenced)) == 10071
    refused = await answer(js, FENCE, revision(1))
    assert code(refused) == 10071
    assert code(await answer(js, FENCE, revision(0))) == 0


async def test_one_server_takes_fenced_outputs_one_behind_the_other(
    fenced: dict[str, str], js: RawJetStream
) -> None:
    found = await answers(js, [("out.a", b"%d" % number, fenced) for number in range(100)])
    assert [code(each) for each in found] == [0] * 100
    assert [message.body for message in await js.messages("OUT", "out.a")] == [b"%d" % n for n in range(100)]


async def test_a_moved_fence_is_told_before_a_duplicate(fenced: dict[str, str], js: RawJetStream) -> None:
    twice = {"Nats-Msg-Id": "1", **fenced}
    first, again = await answers(js, [("out.a", b"", twice), ("out.a", b"", twice)])
    assert (code(first), again.get("duplicate")) == (0, True)
    await js.publish(FENCE)
    assert code(await answer(js, "out.a", twice)) == 10071


async def test_the_fence_of_a_batchs_first_message_guards_all_of_it(
    fenced: dict[str, str], js: RawJetStream
) -> None:
    messages = [("out.a", b"1", fenced), ("out.b", b"2", {}), ("out.a", b"3", {})]
    assert (await batch(js, messages))["count"] == 3
    await js.publish(FENCE)
    assert code(await batch(js, messages)) == 10071
    assert await js.count("OUT") == 5


async def test_a_batch_may_be_sent_in_one_go_and_many_one_behind_the_other(
    fenced: dict[str, str], js: RawJetStream
) -> None:
    for number in range(5):
        messages = [("out.a", b"", {"Nats-Msg-Id": f"{number}.{each}"}) for each in range(10)]
        assert (await batch(js, messages))["count"] == 10
    assert await js.count("OUT") == 51


async def test_one_duplicate_refuses_a_whole_batch(fenced: dict[str, str], js: RawJetStream) -> None:
    await js.publish("out.a", b"", {"Nats-Msg-Id": "1"})
    messages = [("out.a", b"", {"Nats-Msg-Id": str(number)}) for number in (0, 1, 2)]
    assert code(await batch(js, messages)) == 10201
    assert code(await batch(js, [messages[0], messages[0]])) == 10201
    assert await js.count("OUT") == 2


async def test_a_lease_runs_out_within_a_second_of_its_time_and_is_free_at_revision_0(
    js: RawJetStream,
) -> None:
    await js.create("B", ["k.>"], allow_msg_ttl=True, max_msgs_per_subject=1)
    began = time.monotonic()
    held = await js.publish("k.lease", b"me", {"Nats-TTL": "1s"})
    assert (await js.message("B", held)).headers["Nats-TTL"] == "1s"
    await eventually(lambda: _gone(js, "B"))
    assert 0.9 < time.monotonic() - began < 30  # two at most, and what a busy machine adds
    assert code(await answer(js, "k.lease", revision(held))) == 10071
    assert code(await answer(js, "k.lease", revision(0))) == 0


async def test_a_renewed_lease_stays(js: RawJetStream) -> None:
    await js.create("B", ["k.>"], allow_msg_ttl=True, max_msgs_per_subject=1)
    began = time.monotonic()
    while time.monotonic() - began < 2.5:
        sent = time.monotonic()
        await js.publish("k.lease", b"me", {"Nats-TTL": "1s"})
        assert await js.count("B") == 1 or time.monotonic() - sent > 0.9


async def test_with_delete_markers_an_expired_lease_is_free_at_the_markers_revision(
    js: RawJetStream,
) -> None:
    await js.create(
        "B",
        ["k.>"],
        allow_msg_ttl=True,
        max_msgs_per_subject=1,
        allow_rollup_hdrs=True,
        subject_delete_marker_ttl=60 * 10**9,
    )
    await js.publish("k.lease", b"me", {"Nats-TTL": "1s"})
    (marker,) = await eventually(lambda: _marked(js))
    assert code(await answer(js, "k.lease", revision(0))) == 10071
    assert code(await answer(js, "k.lease", revision(marker))) == 0


async def test_direct_get_gives_the_last_message_of_many_subjects_and_says_when_that_is_all(
    js: RawJetStream,
) -> None:
    await js.create("B", ["k.>"], allow_direct=True)
    for key in ("a", "b", "a", "c.d"):
        await js.publish(f"k.{key}", key)
    inbox = js.client.new_inbox()
    found = await js.client.subscribe(inbox)

    async def ask(*patterns: str) -> list[dict[str, str]]:
        request = json.dumps({"multi_last": patterns}).encode()
        await js.client.publish("$JS.API.DIRECT.GET.B", request, reply=inbox)
        got: list[dict[str, str]] = []
        while not got or "Status" not in got[-1]:
            got.append((await found.next_msg(timeout=60)).headers or {})
        return got

    *entries, end = await ask("k.*")
    assert [(each["Nats-Subject"], each["Nats-Sequence"]) for each in entries] == [
        ("k.b", "2"),
        ("k.a", "3"),
    ]
    assert end["Status"] == "204"
    (missing,) = await ask("k.nothing")
    assert missing["Status"] == "404"


async def test_a_schedule_is_made_once_and_its_message_has_every_other_header_as_it_was(
    js: RawJetStream,
) -> None:
    await js.create("S", ["later.>", "due"], allow_msg_schedules=True, allow_msg_ttl=True)
    at = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = {
        "Nats-Schedule": f"@at {at}",
        "Nats-Schedule-Target": "due",
        "Nats-Msg-Id": "1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Jetrunner-Delayed-Target": "out.ü",
    }
    first, again = await answers(js, [("later.1", b"body", given), ("later.1", b"other", given)])
    assert (code(first), again.get("duplicate")) == (0, True)
    (due,) = await eventually(lambda: js.messages("S", "due"))
    assert due.body == b"body"
    for name in ("traceparent", "Jetrunner-Delayed-Target"):
        assert due.headers[name] == given[name]
    assert "Nats-Msg-Id" not in due.headers


async def _gone(js: RawJetStream, stream: str) -> bool:
    return await js.count(stream) == 0


async def _marked(js: RawJetStream) -> list[int]:
    """The sequence of the marker that stands where a lease ran out."""
    try:
        return [
            each.sequence
            for each in await js.messages("B", "k.lease")
            if each.headers.get("Nats-Marker-Reason") == "MaxAge"
        ]
    except ApiError:
        return []
