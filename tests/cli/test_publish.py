"""`runner publish`: what is stored, what is printed, and what is told of the rest."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server


@pytest.fixture
async def orders(js: RawJetStream) -> RawJetStream:
    await js.create("ORDERS", ["orders.>"])
    return js


@pytest.fixture
def project(make_project: Callable[..., Project], nats_server: NatsServer) -> Project:
    return make_project(nats=nats_server.url)


async def test_a_body_is_stored_as_it_is_and_its_place_printed(
    project: Project, orders: RawJetStream
) -> None:
    done = project.runner("publish", "orders.ada.created", '{"id": 1}', "--header", "Tenant: acme")
    assert (done.code, done.stdout, done.stderr) == (0, "ORDERS:1\n", "")
    (stored,) = await orders.messages("ORDERS")
    assert (stored.subject, stored.body) == ("orders.ada.created", b'{"id": 1}')
    assert stored.headers["Tenant"] == "acme"


async def test_json_tells_stream_sequence_and_trace(project: Project, orders: RawJetStream) -> None:
    document = project.json(
        "publish",
        "orders.x",
        "1",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    )
    assert {**document, "trace_id": len(document["trace_id"])} == {
        "stream": "ORDERS", "seq": 1, "duplicate": False, "trace_id": 32,
    }  # fmt: skip
    (stored,) = await orders.messages("ORDERS")
    assert stored.headers["traceparent"].split("-")[1] == document["trace_id"]


async def test_a_trace_that_was_begun_elsewhere_goes_on(project: Project, orders: RawJetStream) -> None:
    begun = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    document = project.json(
        "publish", "orders.x", "1", "-H", f"traceparent:{begun}",
        OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    )  # fmt: skip
    assert document["trace_id"] == begun.split("-")[1]
    (stored,) = await orders.messages("ORDERS")
    assert stored.raw_headers.lower().count(b"traceparent:") == 1


async def test_a_collector_that_is_not_there_is_no_news(project: Project, orders: RawJetStream) -> None:
    done = project.runner(
        "publish", "orders.x", "1", OTEL_TRACES_EXPORTER="otlp", OTEL_BSP_SCHEDULE_DELAY="10"
    )
    assert (done.code, done.stderr) == (0, "")


async def test_a_message_id_that_was_stored_already_is_a_duplicate(
    project: Project, orders: RawJetStream
) -> None:
    for duplicate in (False, True):
        document = project.json("publish", "orders.x", "1", "-H", "Nats-Msg-Id:a")
        assert (document["seq"], document["duplicate"]) == (1, duplicate)


async def test_a_count_stores_it_so_often(project: Project, orders: RawJetStream) -> None:
    document = project.json("publish", "orders.x", "1", "--count", "1500")
    assert [each["seq"] for each in document] == list(range(1, 1501))
    assert await orders.count("ORDERS") == 1500


async def test_lines_fill_their_subject_from_their_fields(project: Project, orders: RawJetStream) -> None:
    lines = '{"customer": "ada", "id": 1}\r\n\n{"customer": 7}\n{"customer": "bob"}'
    done = project.runner("publish", "orders.{customer}.created", "--lines", "-", stdin=lines)
    assert (done.code, done.stdout) == (0, "ORDERS:1\nORDERS:2\nORDERS:3\n")
    assert [(stored.subject, stored.body) for stored in await orders.messages("ORDERS")] == [
        ("orders.ada.created", b'{"customer": "ada", "id": 1}'),
        ("orders.7.created", b'{"customer": 7}'),
        ("orders.bob.created", b'{"customer": "bob"}'),
    ]


async def test_a_wrong_line_is_told_with_its_number_and_the_others_are_stored(
    project: Project, orders: RawJetStream
) -> None:
    file = project.root / "orders.jsonl"
    wrong = [
        '{"customer": "a b"}',
        '{"customer": "a.b"}',
        '{"name": "x"}',
        "[]",
        "nope",
        '{"customer": null, "x": 1}',
    ]
    file.write_text("\n".join(['{"customer": "ada"}', *wrong, '{"customer": "bob"}']))
    done = project.runner(
        "publish", "orders.{customer}.created", "--lines", "--file", str(file), "--output", "json"
    )
    assert done.code == 1
    assert [each["seq"] for each in json.loads(done.stdout)] == [1, 2, 3]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [error.split(":")[1].strip() for error in errors] == [f"line {number}" for number in range(2, 7)]
    assert "3 stored, 5 not" in done.stderr
    assert await orders.count("ORDERS") == 3


def test_no_stream_is_a_failure_with_a_hint(project: Project) -> None:
    done = project.runner("publish", "orders.x", "1")
    assert (done.code, done.stdout) == (1, "")
    assert "error: no stream captures orders.x" in done.stderr
    assert "hint: declare one in streams/" in done.stderr
    done = project.runner("publish", "orders.x", "1", "--count", "3", "--output", "json")
    assert (done.code, json.loads(done.stdout)) == (1, [])
    assert done.stderr.count("hint: ") == 1


async def test_a_message_over_the_servers_limit_is_refused_and_the_others_stored(
    project: Project, orders: RawJetStream
) -> None:
    body = f"small\n{'x' * 1_100_000}\nsmall\n"
    done = project.runner("publish", "orders.x", "--lines", "-", stdin=body)
    assert (done.code, done.stdout) == (1, "ORDERS:1\nORDERS:2\n")
    assert "error: line 2: a message to orders.x has 1100000 bytes" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("orders.x",), "give a BODY or --file"),
        (("orders.x", "1", "--file", "pyproject.toml"), "not both"),
        (("orders.*", "1"), "stands for many subjects"),
        (("orders..x", "1"), "empty token"),
        (("orders.{a}", "1"), "is not a JSON object"),
        (("orders x", "1"), "whitespace"),
        (("orders.x", "1", "--header", "no colon"), "is not NAME:VALUE"),
        (("orders.x", "1", "--header", "a b: c"), "--header"),
        (("orders.x", "1", "--count", "0"), "--count"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_sent_is_wrong_usage(
    project: Project, arguments: tuple[str, ...], sentence: str
) -> None:
    done = project.runner("publish", *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert sentence in done.stderr


async def test_a_reader_that_has_seen_enough_ends_it(project: Project, orders: RawJetStream) -> None:
    (project.root / "many.jsonl").write_text('{"id": 1}\n' * 3000)
    pipe = f"{sys.executable} -m runner publish orders.x --lines --file many.jsonl | head -1"
    done = subprocess.run(  # noqa: ASYNC221  # a pipe of two processes, and nothing else to do meanwhile
        ["/bin/sh", "-c", pipe],
        cwd=project.root,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "ORDERS:1\n"
    assert "Traceback" not in done.stderr


READING = """
    from runner import consume
    print("imported")

    @consume("orders.{customer}.created")
    async def charge(order: bytes) -> None: ...

    @consume("logs.>")
    async def collect(line: bytes) -> None: ...
"""


@pytest.mark.parametrize(
    ("subject", "near"),
    [
        ("orders.ada.craeted", "orders.{customer}.created"),
        ("order.ada.created", "orders.{customer}.created"),
        ("orders.{customer}.craeted", "orders.{customer}.created"),
        ("audit", ""),
        ("orders.ada.created", None),
        ("orders.{customer}.created", None),
        ("logs.web.1", None),
    ],
)
async def test_a_subject_that_no_function_reads_is_told(
    project: Project, js: RawJetStream, subject: str, near: str | None
) -> None:
    await js.create("ALL", ["orders.>", "order.>", "audit", "logs.>"])
    project.function("shop", READING)
    done = project.runner("publish", subject, '{"customer": "ada"}')
    assert (done.code, done.stdout) == (0, "ALL:1\n")
    assert (f"warning: no function of shop reads {subject}" in done.stderr) == (near is not None)
    assert (f"hint: did you mean {near}?" in done.stderr) == bool(near)
    assert ("hint" in done.stderr) == bool(near)


async def test_code_that_cannot_be_imported_is_no_matter_of_publish(
    project: Project, orders: RawJetStream
) -> None:
    project.function("shop", "import nowhere")
    done = project.runner("publish", "orders.x", "1")
    assert (done.code, done.stdout, done.stderr) == (0, "ORDERS:1\n", "")


async def test_a_message_that_something_else_than_a_stream_answers_is_in_doubt_and_not_sent_again(
    project: Project, js: RawJetStream
) -> None:
    """The stream has stored the message, but gives no answer itself."""
    await js.create("ORDERS", ["orders.>"], no_ack=True)
    await js.thank("orders.*")
    done = await asyncio.to_thread(project.runner, "publish", "orders.1", "{}")
    assert done.code == 1
    assert (
        "error: the answer is not a PubAck: something other than a stream answers on the subject"
        in done.stderr
    )
    assert "hint: it may be stored, or not" in done.stderr
    assert await js.count("ORDERS") == 1
