"""What a refusal of the server means: wait, give up, and what the operator can do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from runner.errors import StreamFull, TooLarge
from runner.jetstream.publisher import Outgoing, may_pass, read_ack
from tests.server.conftest import Connects
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

LARGE = 33 << 20
"""More than file storage takes in one record, whatever its limits."""
SMALL_ACCOUNT = """
    accounts {
        SMALL { jetstream: {max_file: 100KB}, users: [{user: small, password: small}] }
    }
    no_auth_user: small
"""


def test_an_account_that_has_lost_its_tier_is_waited_for_as_a_full_one() -> None:
    answer = {"error": {"code": 400, "err_code": 10120, "description": "no applicable tiered limit present"}}
    with pytest.raises(StreamFull, match="tiered limit") as caught:
        read_ack(json.dumps(answer).encode())
    assert may_pass(caught.value)


async def test_a_message_that_no_file_takes_is_too_large_and_not_waited_for(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    server = make_server("max_payload: 60MB")
    async with RawJetStream.connect(server.url) as js, connected(server.url) as connection:
        await js.create("PAID", ["paid.>"])
        with pytest.raises(TooLarge, match="message too large") as caught:
            await connection.publisher.publish_surely(Outgoing("paid.1", b"x" * LARGE), math.inf)
        assert "32 MiB" in caught.value.hint


async def test_a_dead_letter_that_no_file_takes_is_stored_without_its_body(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project]
) -> None:
    """It comes from a stream in memory, which takes any size."""
    server = make_server("max_payload: 60MB")
    async with RawJetStream.connect(server.url) as js:
        shop = Shop(js, server.url, make_project)
        await js.create("ORDERS", ["orders.>"], storage="memory", allow_direct=True)
        shop.write("""
            @consume("orders.{id}")
            async def charge(body: bytes) -> None:
                raise Reject("no")
        """)
        process = await shop.running("charge")
        await js.publish("orders.1", b"x" * LARGE, {"Tenant": "a"})
        letter = await shop.dead_letter()
        await shop.settled("charge")
        assert process.running
        assert (reason(letter), letter.headers["Tenant"], letter.body) == ("rejected", "a", b"")
        assert letter.headers["Jetrunner-Dead-Body"] == "omitted"


async def test_a_reservation_that_is_refused_is_told_as_one(
    connected: Connects, make_server: Callable[..., NatsServer]
) -> None:
    """No stream is full: to let one discard messages would help nobody."""
    server = make_server(SMALL_ACCOUNT)
    async with connected(server.url) as connection:
        wanted = {"name": "PAID", "subjects": ["paid.>"], "storage": "file", "max_bytes": 1 << 20}
        with pytest.raises(StreamFull, match="insufficient storage resources") as caught:
            await connection.api("STREAM.CREATE.PAID", wanted)
        assert "discard" not in caught.value.hint
        assert "max_bytes" in caught.value.hint
