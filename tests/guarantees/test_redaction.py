"""What `redact` names is in no listing, no log and no trace; the message itself keeps it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from runner.telemetry.receiver import Receiver
from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CARD, CODE, TOKEN, COOKIE = "4111-1111-1111-1111", 987_654_321, "tok.en-0123456789", "s3ss10n-abcdef"
SECRETS = (CARD, str(CODE), TOKEN, COOKIE)
HEADERS = {"AuthoriZation": f"Bearer {TOKEN}", "COOKIE": f"theme=a; session={COOKIE}", "Tenant": "blue"}
BODY = {"id": 1, "customers": [[{"Card": CARD}], {"card": {"codes": [CODE]}}], "note": "of Ada"}
RULES = 'redact = ["authorization", "cookie", "customers.card"]'

FAILS = """
    from opentelemetry import trace
    user = trace.get_tracer("user.code")

    @consume("orders.{name}", retry=RetryPolicy.fixed(0, attempts=2))
    async def charge(body: dict, name: str, ctx: Context) -> None:
        said = f"refused: {body!r} by {dict(ctx.headers)} {'x' * 480}{body['customers'][0][0]['Card']}"
        with user.start_as_current_span("query") as span:
            span.set_attribute("query", f"of {body['customers'][0][0]['Card']}")
            raise ValueError(said) from KeyError(body["customers"][1]["card"]["codes"][0])

    @consume("audit.{name}", ordered_by="name", on_exhausted="park")
    async def look(body: dict, name: str) -> None:
        raise Reject(f"cannot take {body['customers'][0][0]['Card']}")
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(params=["text", "json"])
async def process(request: pytest.FixtureRequest, shop: Shop, receiver: Receiver) -> RunnerProcess:
    """One that gave up a message in each function."""
    shop.project.settings(RULES)
    await shop.open(FAILS)
    traced = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    process = shop.run("--log-level", "debug", "--log-format", request.param, **traced)
    await process.seen("ready: ")
    for subject in ("orders.a", "audit.a", "audit.a"):
        await shop.js.publish(subject, BODY, HEADERS)
    await shop.dead_letter(2)
    await eventually(lambda: process.output.count("is a dead letter") == 2)
    await eventually(lambda: shop.js.count("PARKED"))
    return process


async def test_nothing_of_it_is_shown(shop: Shop, process: RunnerProcess, receiver: Receiver) -> None:
    names = {"query", "charge", "look", "send deadletters.shop.look", "park look"}
    await eventually(lambda: names <= {span.name for span in receiver.spans()})
    process.terminate()
    assert await process.ended() == 0
    spans = receiver.spans()
    said = {"log": process.output, **{f"span {span.name}": repr(span) for span in spans}}
    for words in (
        ("deadletter", "list"),
        ("deadletter", "list", "--parked"),
        ("deadletter", "show", "1"),
        ("deadletter", "show", "2"),
        ("parked", "list"),
        ("message", "show", "ORDERS:1"),
        ("message", "show", "AUDIT:1"),
    ):
        for output in ("text", "json"):
            done = await asyncio.to_thread(shop.project.runner, *words, "--output", output)
            assert done.code == 0, done.stderr
            said[" ".join([*words, output])] = done.stdout + done.stderr
    shown = [(place, secret) for place, text in said.items() for secret in SECRETS if secret in text]
    assert shown == []
    assert [place for place, text in said.items() if "1111-1111" in text] == []  # nor a part of it
    without = {place for place, text in said.items() if "[redacted]" not in text}
    assert without == {
        *(
            f"span {name}"
            for name in ("send deadletters.shop.charge", "send deadletters.shop.look", "park look")
        ),
    }
    (kept,) = await shop.js.messages("JETRUNNER_ERRORS")
    assert "[redacted]" in kept.body.decode()
    assert [secret for secret in SECRETS if secret in kept.body.decode()] == []
    assert "blue" in said["deadletter show 1 text"]
    assert "of Ada" in said["deadletter show 1 text"]


@pytest.mark.parametrize("process", ["text"], indirect=True)
async def test_what_is_stored_is_whole_and_goes_back_as_it_was(shop: Shop, process: RunnerProcess) -> None:
    letters = await shop.dead()
    assert [letter.json() for letter in letters] == [BODY, BODY]
    assert letters[0].headers["AuthoriZation"] == HEADERS["AuthoriZation"]
    assert CARD in letters[0].headers["Jetrunner-Dead-Message"]


async def test_a_call_without_a_server_hides_it_too(shop: Shop) -> None:
    shop.project.settings(RULES)
    shop.write(
        FAILS
        + """
    @consume("paid.{name}")
    async def echo(body: dict, ctx: Context) -> dict:
        await ctx.publish("audit.a", body, headers={"Authorization": ctx.headers["AuthoriZation"]})
        return {**body, "again": body["customers"][0][0]["Card"]}
"""
    )
    more = [word for name, value in HEADERS.items() for word in ("-H", f"{name}: {value}")]
    for function, subject in (("charge", "orders.a"), ("look", "audit.a"), ("echo", "paid.a")):
        for output in ("text", "json"):
            done = await asyncio.to_thread(
                shop.project.runner,
                "function",
                "invoke",
                function,
                "--subject",
                subject,
                json.dumps(BODY),
                *more,
                "--output",
                output,
            )
            said = done.stdout + done.stderr
            assert "[redacted]" in said
            assert [secret for secret in SECRETS if secret in said] == []
