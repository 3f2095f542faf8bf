"""An answer goes to an inbox and nowhere else: who may only ask must not publish with the runner's permissions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runner import reply
from runner.config import load_settings
from runner.errors import SettingsError
from tests.services.conftest import Answering
from tests.support.asker import asking
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

ran: list[bytes] = []


@reply("echo.{who}")
async def echo(body: bytes, who: str) -> bytes:
    ran.append(body)
    return body


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


STREAMS = {"ORDERS": ["orders.*"]}


@pytest.mark.parametrize(
    "reply_to",
    [
        "orders.made",
        "$JS.API.STREAM.DELETE.ORDERS",
        "jetrunner.services",
        "$JETRUNNER.again.test.echo",
        "inbox.mine",
        "x" * 3_500,
    ],
)
async def test_a_request_whose_answer_would_go_elsewhere_is_not_run(
    answering: Answering, caplog: pytest.LogCaptureFixture, reply_to: str
) -> None:
    async with answering(echo, streams=STREAMS) as (app, asker):
        await asker.subscribe(reply_to)
        asker.send("echo.a", b"evil", reply=reply_to)
        assert (await asker.ask("echo.a", b"good")).body == b"good"
        assert ran == [b"good"]
        assert asker.answers.empty()
        assert await app.outputs("orders.*") == []
        assert "a request does not run, because its reply subject" in caplog.text


async def test_what_an_instance_tells_of_itself_goes_to_inboxes_too(answering: Answering) -> None:
    async with answering(echo, streams=STREAMS) as (app, asker):
        for subject in ("$SRV.PING", "$SRV.INFO.test", "$SRV.STATS"):
            asker.send(subject, reply="orders.made")
        assert (await asker.ask("$SRV.PING.test")).code == 0
        assert await app.outputs("orders.*") == []


@pytest.mark.parametrize("reply_to", ["_INBOX.a.b", "_INBOX_ada.x.1"])
async def test_inboxes_of_every_usual_kind_are_answered(answering: Answering, reply_to: str) -> None:
    async with answering(echo) as (_, asker):
        await asker.subscribe(reply_to)
        asker.send("echo.a", b"hi", reply=reply_to)
        async with asyncio.timeout(60):
            answer = await asker.answers.get()
        assert (answer.subject, answer.body) == (reply_to, b"hi")


async def test_a_request_without_a_reply_is_run_and_not_answered(answering: Answering) -> None:
    async with answering(echo) as (_, asker):
        asker.send("echo.a", b"alone")
        await asker.ask("echo.a", b"next")
        assert ran == [b"alone", b"next"]


async def test_the_setting_names_more_kinds_of_inboxes(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    source = """
        from runner import reply

        @reply("echo.{who}")
        async def echo(body: bytes) -> bytes:
            return body
    """
    project = make_project(
        functions={"shop": source}, settings='inboxes = ["acme.inbox."]\n', nats=nats_server.url
    )
    await project.start("run").seen("ready: ")
    async with asking(nats_server.url) as asker:
        await asker.subscribe("acme.>")
        asker.send("echo.a", b"no", reply="acme.other.1")
        asker.send("echo.a", b"yes", reply="acme.inbox.1")
        async with asyncio.timeout(60):
            assert (await asker.answers.get()).body == b"yes"


@pytest.mark.parametrize("given", ['["orders"]', '["$JS.API."]', '["jetrunner."]', '["a b."]', "7", '["."]'])
def test_the_setting_takes_what_inboxes_may_begin_with(
    make_project: Callable[..., Project], given: str
) -> None:
    project = make_project(settings=f"inboxes = {given}\n")
    with pytest.raises(SettingsError, match="inboxes"):
        load_settings(project.root, {}, {})


async def test_a_requester_of_another_account_is_answered(make_server: Callable[..., NatsServer]) -> None:
    """The server puts a subject of its own in the place of the inbox."""
    server = make_server(
        """
        accounts {
          SHOP {
            jetstream: enabled
            users: [{ user: shop, password: shop }]
            exports: [{ service: "echo.*" }]
          }
          OTHER {
            users: [{ user: other, password: other }]
            imports: [{ service: { account: SHOP, subject: "echo.*" } }]
          }
        }
        """
    )
    from runner import testing

    async with (
        testing.run(echo, url=server.url_as("shop", "shop")),
        asking(server.url_as("other", "other")) as asker,
    ):
        assert (await asker.ask("echo.a", b"from afar")).body == b"from afar"


async def test_somebody_who_may_only_ask_cannot_store_anything(
    make_server: Callable[..., NatsServer],
) -> None:
    from runner import testing

    server = make_server(
        """
        accounts { SHOP {
          jetstream: enabled
          users: [
            { user: shop, password: shop },
            { user: guest, password: guest, permissions: { publish: "echo.*", subscribe: "_INBOX.>" } },
          ]
        } }
        """
    )
    async with RawJetStream.connect(server.url_as("shop", "shop")) as js:
        await js.create("ORDERS", ["orders.*"])
        async with (
            testing.run(echo, url=server.url_as("shop", "shop")),
            asking(server.url_as("guest", "guest")) as guest,
        ):
            guest.send("echo.a", b"an order", reply="orders.made")
            assert (await guest.ask("echo.a", b"a question")).body == b"a question"
            await eventually(lambda: ran == [b"a question"])
            assert await js.count("ORDERS") == 0
