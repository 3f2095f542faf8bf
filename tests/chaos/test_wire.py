"""Both wires through trouble, over TCP and TLS: every message is handled and acknowledged, none is misread."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

import msgspec
import pytest

from runner.config import Settings
from runner.jetstream import consumer
from runner.jetstream.connection import connect
from runner.jetstream.delivery import Delivery
from runner.jetstream.pull import Pull
from tests.support.certificates import Certificates
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.timeout(300)]


def content(number: int) -> tuple[str, bytes, dict[str, str] | None]:
    """What message `number` looks like, so that whoever reads it can tell."""
    body = b"%d " % number + b"\r\nMSG a 1 3\r\n"[: number % 14] + b"x" * (number * 37 % 6000)
    headers = {"Nats-Msg-Id": str(number)} | ({"Number": f"{number} é"} if number % 3 else {})
    return f"orders.{number % 7}", body, headers


class Reader:
    """Checks and acknowledges every message."""

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()
        self.misread: list[bytes] = []

    def __call__(self, delivery: Delivery) -> None:
        number = int(delivery.body[: delivery.body.index(b" ")])
        subject, body, headers = content(number)
        block = delivery.header or b""
        right = delivery.subject == subject.encode() and delivery.body == body
        right = right and all(f"{name}: {value}".encode() in block for name, value in (headers or {}).items())
        if right:
            self.seen[number] += 1
        else:
            self.misread.append(delivery.subject)
        delivery.source.settle(delivery, b"+ACK")


@pytest.mark.parametrize("wire", ["fast", "plain"])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_every_message_is_handled_and_acknowledged_and_none_misread(
    make_server: Callable[..., NatsServer],
    certificates: Certificates,
    wire: Literal["fast", "plain"],
    tls: bool,
    long: bool,
    seed: int,
    tell: Callable[[str], None],
) -> None:
    luck, seconds = random.Random(seed), 40.0 if long else 3.0
    server = make_server(certificates.config() if tls else "")
    reader, faults, sent = Reader(), Counter[str](), 0
    trust = {"tls": certificates.context()} if tls else {}
    async with Proxy.to(server.port) as proxy, RawJetStream.connect(server.url, **trust) as js:
        await js.create("ORDERS", ["orders.*"])
        settings = Settings(nats_url=proxy.url, wire=wire, nats_tls_ca=str(certificates.ca) if tls else None)
        async with connect(settings, patience=10) as connection:
            wanted = consumer.config("shop-charge", "orders.*", "all", "charge")
            # Acks that the server had not stored are lost with it: the end need not wait 10 s for their messages.
            wanted = msgspec.structs.replace(wanted, ack_wait=2 * 10**9)
            await consumer.ensure(connection, "ORDERS", wanted)
            pull = Pull(connection, "ORDERS", "shop-charge", 256, reader, lambda: None)
            await pull.open()
            stop = time.monotonic() + seconds

            async def watch() -> None:
                while True:
                    pull.watch(time.monotonic())
                    await asyncio.sleep(0.05)

            async def publish() -> None:
                nonlocal sent

                async def one(number: int) -> None:
                    subject, body, headers = content(number)
                    await eventually(lambda: js.publish(subject, body, headers, within=1), within=60)

                while time.monotonic() < stop:
                    await asyncio.gather(*[one(number) for number in range(sent, sent + 200)])
                    sent += 200

            async def trouble() -> None:
                while time.monotonic() < stop:
                    await asyncio.sleep(luck.uniform(0.2, 1.0))
                    if luck.random() < 0.4:
                        faults["kills"] += 1
                        await asyncio.to_thread(server.kill)
                        await asyncio.sleep(luck.random() * 0.5)
                        await asyncio.to_thread(server.start)
                    else:
                        faults["cuts"] += 1
                        await proxy.cut()

            watching = asyncio.create_task(watch())
            await asyncio.gather(publish(), trouble())
            try:
                await eventually(lambda: js.settled("ORDERS", "shop-charge"), within=60)
            finally:
                watching.cancel()
                again = sum(runs > 1 for runs in reader.seen.values())
                tell(
                    f"wire chaos: seed {seed}: {wire}, {'TLS' if tls else 'TCP'}: {faults['kills']} kills, "
                    f"{faults['cuts']} cuts, {sent} sent, {len(set(range(sent)) - set(reader.seen))} missing, "
                    f"{len(reader.misread)} misread, {again} delivered more than once"
                )
            await pull.close()
    assert reader.misread == []
    assert set(reader.seen) == set(range(sent))
