"""A request goes to an instance that can answer it, and elsewhere where it cannot, as far as that is safe."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import nats
import pytest
from nats.aio.msg import Msg
from nats.micro import add_service

from runner.client import App
from runner.core import service
from runner.errors import NoResponders, ServiceError, Unconfirmed
from tests.requests.conftest import Here, known
from tests.support.eventually import eventually
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.usefixtures("patient")]

NOT_IDEMPOTENT = {"quote.*": False}


async def test_each_instance_is_asked_on_its_own_subject(app: App, instance: Here) -> None:
    one, other = await instance("a"), await instance("b")
    await known(app, "a", "b")
    for _ in range(20):
        await app.request("quote.7", None, policy="round_robin")
    assert len(one.asked) == len(other.asked) == 10
    assert {each.subject for each in one.asked} == {"jetrunner.shop.at.a.quote.7"}


async def test_the_time_that_is_left_and_the_trace_travel_along(app: App, instance: Here) -> None:
    one = await instance("a")
    await app.request("quote.7", None, timeout=90.0, headers={"Tenant": "acme"})
    (asked,) = one.asked
    assert asked.headers is not None
    assert 61_000 < int(asked.headers[service.DEADLINE]) <= 90_000
    assert len(asked.headers["traceparent"]) == 55
    assert asked.headers["Tenant"] == "acme"


@pytest.mark.parametrize(
    ("policy", "share"),
    [("round_robin", 30), ("weighted_round_robin", 45), ("random", None)],
)
async def test_a_policy_is_chosen_for_a_request(
    app: App, instance: Here, policy: str, share: int | None
) -> None:
    await instance("a", weight=3.0)
    await instance("b")
    for name in ("a", "b"):
        await eventually_asked(app, name)
    found = Counter([await app.request("quote.7", None, policy=policy) for _ in range(60)])  # type: ignore[call-overload]
    assert share is None or found["a"] == share
    assert min(found["a"], found["b"]) > 5


async def test_an_instance_that_comes_is_asked_and_one_that_goes_is_not(app: App, instance: Here) -> None:
    one = await instance("a")
    assert await app.request("quote.1", None) == "a"
    other = await instance("b")
    await eventually_asked(app, "b")
    await one.tell(gone=True)
    await one.client.flush()
    await eventually_asked(app, "b")
    count = len(one.asked)
    for _ in range(10):
        assert await app.request("quote.1", None, policy="round_robin") == "b"
    assert len(one.asked) == count
    assert other.asked


async def eventually_asked(app: App, name: str) -> None:
    async with asyncio.timeout(60):
        while await app.request("quote.1", None, policy="round_robin") != name:
            pass


async def test_an_instance_that_is_gone_without_a_word_costs_nothing(app: App, instance: Here) -> None:
    one = await instance("a", subjects=NOT_IDEMPOTENT)
    await instance("b", subjects=NOT_IDEMPOTENT)
    await eventually_asked(app, "a")
    await one.close()
    for _ in range(20):
        assert await app.request("quote.1", None, policy="round_robin") == "b"


@pytest.mark.parametrize("why", ["overloaded", "draining", "unknown"])
async def test_what_was_not_begun_is_asked_elsewhere_whatever_the_function(
    app: App, instance: Here, why: service.NotStarted
) -> None:
    one, other = await instance("a", subjects=NOT_IDEMPOTENT), await instance("b", subjects=NOT_IDEMPOTENT)
    await known(app, "a", "b")
    one.answer = one.error(service.CODES[why], why, why)
    for _ in range(10):
        assert await app.request("quote.1", None, policy="round_robin") == "b"
    assert one.asked
    assert len(other.asked) == 10


async def test_where_all_are_overloaded_the_asker_is_told_at_once(app: App, instance: Here) -> None:
    for name in ("a", "b"):
        each = await instance(name)
        each.answer = each.error(429, "too many wait", "overloaded")
    began = time.monotonic()
    with pytest.raises(ServiceError, match="too many wait") as raised:
        await app.request("quote.1", None)
    assert raised.value.code == 429
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("code", [400, 404, 422])
async def test_an_error_of_the_asker_is_an_answer(app: App, instance: Here, code: int) -> None:
    one, other = await instance("a"), await instance("b")
    await known(app, "a", "b")
    one.answer, other.answer = one.error(code, "bad"), other.error(code, "bad")
    with pytest.raises(ServiceError, match="bad") as raised:
        await app.request("quote.1", None)
    assert raised.value.code == code
    assert len(one.asked) + len(other.asked) == 1


@pytest.mark.parametrize("code", [500, 503, 408])
async def test_a_failure_is_asked_elsewhere_where_it_may_run_twice(
    app: App, instance: Here, code: int
) -> None:
    one, _ = await instance("a"), await instance("b")
    await known(app, "a", "b")
    one.answer = one.error(code, "broken")
    for _ in range(10):
        assert await app.request("quote.1", None, policy="round_robin") == "b"
    assert one.asked


async def test_a_failure_is_told_where_it_may_not_run_twice(app: App, instance: Here) -> None:
    one, other = await instance("a", subjects=NOT_IDEMPOTENT), await instance("b", subjects=NOT_IDEMPOTENT)
    await known(app, "a", "b")
    one.answer, other.answer = one.error(500, "broken"), other.error(500, "broken")
    with pytest.raises(ServiceError, match="broken"):
        await app.request("quote.1", None)
    assert len(one.asked) + len(other.asked) == 1


async def test_an_instance_that_fails_again_and_again_is_left_alone(app: App, instance: Here) -> None:
    one = await instance("a")
    await instance("b")
    await known(app, "a", "b")
    one.answer = one.error(500, "broken")
    for _ in range(40):
        assert await app.request("quote.1", None, policy="round_robin") == "b"
    assert len(one.asked) < 10


@pytest.mark.usefixtures("hasty")
async def test_work_of_an_instance_that_stands_still_is_done_elsewhere(app: App, instance: Here) -> None:
    one, _ = await instance("a"), await instance("b")
    await known(app, "a", "b")
    one.answer, one.answers_pings = one.silent, False
    began = time.monotonic()
    for _ in range(4):
        assert await app.request("quote.1", None, policy="round_robin", timeout=60.0) == "b"
    assert time.monotonic() - began < 50
    assert one.pings


async def test_without_an_answer_the_asker_hears_so_in_time(app: App, instance: Here) -> None:
    one = await instance("a", subjects=NOT_IDEMPOTENT)
    await known(app, "a")
    one.answer = one.silent
    began = time.monotonic()
    with pytest.raises(Unconfirmed, match="quote.1"):
        await app.request("quote.1", None, timeout=0.2)
    assert 0.19 < time.monotonic() - began < 15
    await eventually(lambda: one.asked)
    assert len(one.asked) == 1


async def test_an_answer_after_its_time_is_nobodys(app: App, instance: Here) -> None:
    one = await instance("a", subjects=NOT_IDEMPOTENT)
    await known(app, "a")
    one.answer = one.silent
    with pytest.raises(Unconfirmed):
        await app.request("quote.1", None, timeout=0.1)
    await eventually(lambda: one.asked)
    await one.asked[0].respond(b'"late"')
    one.answer = one.echo
    assert await app.request("quote.2", None) == "a"


async def test_a_request_that_is_taken_back_leaves_nothing(app: App, instance: Here) -> None:
    one = await instance("a")
    await known(app, "a")
    one.answer = one.silent
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await app.request("quote.1", None)
    requester = app._requester
    assert not requester._waiting
    assert [each.outstanding for each in requester.directory.peers.values()] == [{}]
    (callee,) = requester.directory.callees.values()
    assert [each.outstanding for each in callee.balancer.backends.values()] == [0]


async def test_nobody_at_all(app: App) -> None:
    with pytest.raises(NoResponders, match="nobody answers on quote.1"):
        await app.request("quote.1", None)


async def test_a_responder_of_others_is_asked_as_any_client_would(app: App, nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)

    async def answer(message: Msg) -> None:
        await message.respond(b'"plain"')

    await client.subscribe("plain.*", cb=answer)
    await client.flush()
    assert await app.request("plain.x", None) == "plain"
    await client.close()


async def test_a_service_that_is_not_ours_is_asked_on_its_own_subject_alone(
    app: App, nats_server: NatsServer
) -> None:
    client = await nats.connect(nats_server.url)
    service_of_others = await add_service(client, name="other", version="1.0.0")

    async def answer(message: object) -> None:
        await message.respond(b'"micro"')  # type: ignore[attr-defined]

    await service_of_others.add_endpoint(name="e", subject="micro.*", handler=answer)
    await client.flush()
    assert await app.request("micro.x", None) == "micro"
    await client.close()


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b"\xff", b'{"name":"$JS","id":">","version":"1"}', b"x" * 100_000]
)
async def test_what_services_may_tell_breaks_nothing(app: App, instance: Here, body: bytes) -> None:
    one = await instance("a")
    assert await app.request("quote.1", None) == "a"
    await one.client.publish(service.NEWS, body)
    await one.client.flush()
    assert await app.request("quote.1", None) == "a"


@pytest.mark.parametrize("code", ["", "x", "-1", "99999", "5 0"])
async def test_a_code_that_is_none_is_an_answer_like_any_other(app: App, instance: Here, code: str) -> None:
    one = await instance("a")

    async def answer(message: Msg) -> None:
        await one.client.publish(message.reply, b'"fine"', headers={service.CODE: code})

    one.answer = answer
    assert await app.request("quote.1", None) == "fine"


async def test_requests_outlive_a_lost_connection_where_they_may_run_twice(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    one = await instance("a")
    assert await app.request("quote.1", None) == "a"
    one.answer = one.silent
    asking = asyncio.create_task(app.request("quote.2", None, timeout=60.0))
    await eventually(lambda: len(one.asked) == 2)
    one.answer = one.echo
    nats_server.restart()
    assert await asking == "a"


async def test_a_request_that_may_not_run_twice_is_told_that_the_connection_was_lost(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    one = await instance("a", subjects=NOT_IDEMPOTENT)
    one.answer = one.silent
    asking = asyncio.create_task(app.request("quote.2", None, timeout=60.0))
    await eventually(lambda: len(one.asked) == 1)
    nats_server.restart()
    with pytest.raises(Unconfirmed, match="connection was lost"):
        await asking
