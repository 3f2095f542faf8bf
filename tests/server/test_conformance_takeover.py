"""What a takeover leans on: whose delivery an answer is about, the server takes from its stream sequence alone."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time

import pytest

from tests.server.conforming import Pulling, durable, forge
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.fixture
async def pulled(js: RawJetStream) -> Pulling:
    """Messages 1 to 5 of stream `S`, delivered by durable `c` to somebody who does not answer."""
    await js.create("S", ["s.>"])
    await durable(js, "S", "c")
    for number in range(5):
        await js.publish("s.a", b"%d" % number)
    owner = Pulling(js, "S", "c")
    await owner.ask(5)
    await eventually(lambda: len(owner.messages) == 5)
    return owner


async def test_a_forged_nak_returns_a_message_at_once_and_in_order(pulled: Pulling, js: RawJetStream) -> None:
    await js.publish("s.a", b"new")
    heir = Pulling(js, "S", "c")
    await forge(js, "S", "c", b"-NAK", *range(1, 6))
    began = time.monotonic()
    await heir.ask(6)
    await eventually(lambda: len(heir.messages) == 6)
    assert time.monotonic() - began < 9
    # A new message may come before, as the server works off answers beside its deliveries: hence the barrier.
    assert [each for each in heir.sequences if each <= 5] == [1, 2, 3, 4, 5]


async def test_a_forged_nak_must_name_a_consumer_sequence_that_is_delivered_and_above_the_floor(
    pulled: Pulling, js: RawJetStream
) -> None:
    await pulled.messages[0].ack()
    await eventually(lambda: _pending(js, 4))
    heir = Pulling(js, "S", "c")
    for delivered in (0, 1, 7):
        await forge(js, "S", "c", b"-NAK", 2, 3, delivered=delivered)
    await heir.ask(5, expires=0.3)
    await eventually(lambda: heir.statuses)
    assert heir.sequences == []
    await forge(js, "S", "c", b"-NAK", 3, delivered=2)  # another message's will do
    await heir.ask(1)
    await eventually(lambda: heir.messages)
    assert heir.sequences == [3]


async def test_a_forged_nak_keeps_the_delivery_count(pulled: Pulling, js: RawJetStream) -> None:
    heir = Pulling(js, "S", "c")
    for _ in range(2):
        already = len(heir.messages)
        await forge(js, "S", "c", b"-NAK", 2)
        await heir.ask(1)
        await eventually(lambda already=already: len(heir.messages) > already)  # type: ignore[misc]  # a default binds it
    assert heir.sequences == [2, 2]
    assert heir.deliveries == [2, 3]


async def test_a_forged_nak_of_what_is_acked_or_was_never_delivered_is_ignored(
    pulled: Pulling, js: RawJetStream
) -> None:
    for message in pulled.messages[1:3]:
        await message.ack()
    await js.publish("s.a", b"new")
    await forge(js, "S", "c", b"-NAK", 0, 2, 3, 6, 7, 1000)
    # Answers come one after the other: the server has seen all before this one.
    await pulled.messages[3].ack_sync(60)
    heir = Pulling(js, "S", "c")
    await heir.ask(10, expires=0.3)
    await eventually(lambda: heir.statuses)
    assert heir.sequences == [6]
    assert heir.deliveries == [1]
    assert (await js.consumer("S", "c"))["num_ack_pending"] == 3


async def test_a_forged_ack_settles_a_message(pulled: Pulling, js: RawJetStream) -> None:
    await forge(js, "S", "c", b"+ACK", 1, 3, delivered=0)
    await eventually(lambda: _pending(js, 3))
    assert (await js.consumer("S", "c"))["ack_floor"]["stream_seq"] == 1


async def test_the_late_ack_of_a_predecessor_settles_what_was_delivered_again(
    pulled: Pulling, js: RawJetStream
) -> None:
    heir = Pulling(js, "S", "c")
    await forge(js, "S", "c", b"-NAK", 1)
    await heir.ask(1)
    await eventually(lambda: heir.messages)
    await pulled.messages[0].ack()
    await eventually(lambda: _pending(js, 4))


async def test_a_consumers_info_tells_floor_delivered_and_pending(pulled: Pulling, js: RawJetStream) -> None:
    for number in (0, 1, 3):
        await pulled.messages[number].ack()
    await eventually(lambda: _pending(js, 2))
    info = await js.consumer("S", "c")
    assert info["ack_floor"]["stream_seq"] == 2
    assert (info["delivered"]["stream_seq"], info["delivered"]["consumer_seq"]) == (5, 5)
    await forge(js, "S", "c", b"-NAK", 3, 5)
    await js.publish("s.a", b"new")
    info = await js.consumer("S", "c")
    assert (info["num_ack_pending"], info["delivered"]["stream_seq"]) == (2, 5)  # a nak alone moves nothing
    heir = Pulling(js, "S", "c")
    await heir.ask(3)
    await eventually(lambda: len(heir.messages) == 3)
    assert [each for each in heir.sequences if each <= 5] == [3, 5]
    assert [each.metadata.sequence.consumer for each in heir.messages] == [6, 7, 8]
    info = await js.consumer("S", "c")
    assert (info["num_ack_pending"], info["delivered"]["stream_seq"]) == (3, 6)
    assert info["delivered"]["consumer_seq"] == 8


async def test_a_nak_with_a_delay_comes_back_after_that_delay(pulled: Pulling, js: RawJetStream) -> None:
    heir = Pulling(js, "S", "c")
    await heir.ask(2)
    began = time.monotonic()
    await forge(js, "S", "c", b'-NAK {"delay":1000000000}', 4)
    await forge(js, "S", "c", b'-NAK {"delay":100000000}', 5)
    await eventually(lambda: heir.messages)
    assert time.monotonic() - began > 0.08
    await eventually(lambda: len(heir.messages) == 2)
    assert time.monotonic() - began > 0.95
    assert heir.sequences == [5, 4]


async def test_a_pull_of_a_frozen_client_expires_and_nothing_is_delivered_to_it_afterwards(
    js: RawJetStream, nats_server: NatsServer
) -> None:
    await js.create("S", ["s.>"])
    await durable(js, "S", "c")
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", PULL, str(nats_server.port))
    try:
        await eventually(lambda: _waiting(js, 1))
        child.send_signal(signal.SIGSTOP)
        await eventually(lambda: _waiting(js, 0))
        await js.publish("s.a")
        assert (await js.consumer("S", "c"))["num_ack_pending"] == 0
        heir = Pulling(js, "S", "c")
        await heir.ask(1)
        await eventually(lambda: heir.messages)
        assert heir.deliveries == [1]
    finally:
        child.kill()
        await child.wait()


async def test_a_request_to_a_client_that_has_vanished_is_answered_with_no_responders_at_once(
    js: RawJetStream, nats_server: NatsServer
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false}\r\nSUB alive.me 1\r\nPING\r\n')
    assert (await reader.readline()).startswith(b"PONG")
    inbox = js.client.new_inbox()
    probes = await js.client.subscribe(inbox)
    await js.client.publish("alive.me", reply=inbox)
    assert (await reader.readline()).startswith(b"MSG alive.me 1")
    found: socket.socket = writer.get_extra_info("socket")
    found.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
    )  # as the kernel does for a killed one
    writer.transport.abort()

    async def gone() -> bool:
        await js.client.publish("alive.me", reply=inbox)
        answer = await probes.next_msg(timeout=0.1)
        return (answer.headers or {}).get("Status") == "503"

    await eventually(gone)


async def _pending(js: RawJetStream, count: int) -> bool:
    return bool((await js.consumer("S", "c"))["num_ack_pending"] == count)


async def _waiting(js: RawJetStream, count: int) -> bool:
    return bool((await js.consumer("S", "c"))["num_waiting"] == count)


PULL = f"""
import socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
request = {json.dumps({"batch": 10, "expires": 1_000_000_000})!r}
s.sendall(b'CONNECT {{"verbose":false}}\\r\\nSUB in 1\\r\\n')
while True:
    s.sendall(f'PUB $JS.API.CONSUMER.MSG.NEXT.S.c in {{len(request)}}\\r\\n{{request}}\\r\\n'.encode())
    time.sleep(1.1)
"""
