"""The server's own partition and transforms, held against ours: a key in another shard would break its order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from runner.core import sharding
from runner.core.sharding import Sharding
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHARDS = 97
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-_ABC$=+@äöüßéñ中文字кириллица🦊𝄞"


@pytest.fixture
def token() -> Callable[[], str]:
    """Random tokens, the same ones each time."""
    luck = random.Random(20_260_801)
    return lambda: "".join(luck.choices(ALPHABET, k=luck.randint(1, 24)))


async def create(js: RawJetStream, subjects: list[str], positions: tuple[int, ...]) -> dict[str, Any]:
    """A stream sharded by us; the configuration that the server made of it."""
    made = sharding.transform(subjects, positions, SHARDS, 1)
    config = {"name": "KEYS", "subjects": subjects, "storage": "memory", "subject_transform": made}
    answer = await js.api("STREAM.CREATE.KEYS", config)
    return dict(answer["config"])


async def publish(js: RawJetStream, subjects: list[str]) -> None:
    """All at once: publishes of one connection keep their order. Each is stored when this returns."""
    stream = js.client.jetstream()
    await asyncio.gather(*[await stream.publish_async(subject, b"") for subject in subjects])


async def stored(js: RawJetStream, count: int, filters: Sequence[str] = ()) -> list[str]:
    """The stored subjects that a consumer with these filters gets, in order, which are `count`."""
    inbox = js.client.new_inbox()
    subscription = await js.client.subscribe(inbox, pending_msgs_limit=-1, pending_bytes_limit=-1)
    config = {"deliver_subject": inbox, "ack_policy": "none", "filter_subjects": list(filters)}
    await js.api("CONSUMER.CREATE.KEYS", {"stream_name": "KEYS", "config": config})
    found = []
    for _ in range(count):
        message = await subscription.next_msg(timeout=60)
        found.append(message.subject)
    last = message.reply.split(".")[-1]
    assert last == "0", f"{last} more messages are there"
    await subscription.unsubscribe()
    return found


@pytest.mark.parametrize(
    ("pattern", "positions"), [("keys.*.*.>", (1,)), ("keys.*.*.*.*", (3, 1)), ("keys.*.*.*.*", (4, 1, 2))]
)
async def test_the_server_puts_10_000_random_keys_into_the_shards_we_compute(
    js: RawJetStream, token: Callable[[], str], pattern: str, positions: tuple[int, ...]
) -> None:
    subjects = [f"keys.{token()}.{token()}.{token()}.{token()}" for _ in range(10_000)]
    await create(js, [pattern], positions)
    await publish(js, subjects)
    found = await stored(js, len(subjects))
    sharded = Sharding(1, SHARDS, positions)
    assert found == [f"shard.1.{sharded.shard_of(subject)}.{subject}" for subject in subjects]
    assert [sharding.original(subject) for subject in found] == subjects
    assert len({sharding.place(subject) for subject in found}) == SHARDS


async def test_the_server_puts_keys_that_are_no_text_into_the_shards_we_compute(js: RawJetStream) -> None:
    """It hashes the bytes of a token as they came; its API tells the subject with other characters."""
    await create(js, ["keys.*.*.*"], (1, 3))
    tokens = [b"\xff", b"\xfe\xff", b"a\xe9b", b"\xc3", b"caf\xc3\xa9", b"\xed\xa0\x80", b"\xf0\x9f"]
    subjects = [b"keys.%b.new.%b" % (one, other) for one in tokens for other in tokens]
    for subject in subjects:
        await js.client._send_command(b"PUB %b 0\r\n\r\n" % subject)

    async def all_are_stored() -> bool:
        return await js.count("KEYS") == len(subjects)

    await js.client.flush()
    await eventually(all_are_stored)
    sharded = Sharding(1, SHARDS, (1, 3))
    for number, subject in enumerate(subjects, 1):
        message = await js.message("KEYS", number)
        shard = sharded.shard_of(subject.decode("utf-8", "surrogateescape"))
        assert sharding.place(message.subject) == (1, shard), subject


@pytest.mark.parametrize(
    ("subjects", "positions", "published"),
    [
        (["a.*.new", "a.*.paid"], (1,), ["a.x.new", "a.y.paid"]),
        (["a.*.new", "b.*.new.*", "c.*.>"], (1,), ["a.x.new", "b.x.new.1", "c.x.1.2.3.4"]),
        (["a.vip", "b.*"], (1,), ["a.vip", "b.x", "b.ä"]),
        (["a.*.*.*", "b.*.*.*"], (3, 1), ["a.1.2.3", "b.1.2.3", "b.3.2.1"]),
        (["*"], (0,), ["x", "y"]),
        (["one.two", "one.three"], (1,), ["one.two", "one.three"]),
    ],
)
async def test_the_server_accepts_one_transform_for_all_subjects_and_gives_it_back(
    js: RawJetStream, subjects: list[str], positions: tuple[int, ...], published: list[str]
) -> None:
    config = await create(js, subjects, positions)
    assert sharding.read(config) == Sharding(1, SHARDS, positions)
    await publish(js, published)
    sharded = Sharding(1, SHARDS, positions)
    expected = [f"shard.1.{sharded.shard_of(subject)}.{subject}" for subject in published]
    assert await stored(js, len(published)) == expected


async def test_a_stream_that_sources_another_is_sharded_by_its_source(js: RawJetStream) -> None:
    await js.api("STREAM.CREATE.PLAIN", {"name": "PLAIN", "subjects": ["a.*.>"], "storage": "memory"})
    published = ["a.x.1", "a.y.2", "a.x.3.4"]
    await publish(js, published)
    made = sharding.transform(["a.*.>"], (1,), SHARDS, 1)
    answer = await js.api(
        "STREAM.CREATE.KEYS",
        {
            "name": "KEYS",
            "storage": "memory",
            "sources": [{"name": "PLAIN", "subject_transforms": [made]}],
        },
    )
    sharded = sharding.read(answer["config"])
    assert sharded == Sharding(1, SHARDS, (1,))
    assert await stored(js, 3) == [f"shard.1.{sharded.shard_of(subject)}.{subject}" for subject in published]


@pytest.mark.parametrize("pattern", ["a.*.new", "a.>", "*.*.new", ">", "*.>"])
async def test_the_filters_of_a_function_that_keeps_no_order_find_every_generation(
    js: RawJetStream, pattern: str
) -> None:
    await js.api("STREAM.CREATE.KEYS", {"name": "KEYS", "subjects": ["a.*.*"], "storage": "memory"})
    await publish(js, ["a.x.new", "a.x.old"])
    for generation in (1, 2):
        made = sharding.transform(["a.*.*"], (1,), 8 * generation, generation)
        config = {"name": "KEYS", "subjects": ["a.*.*"], "storage": "memory", "subject_transform": made}
        await js.api("STREAM.UPDATE.KEYS", config)
        await publish(js, ["a.x.new", "a.x.old"])
    wanted = ["a.x.new"] if pattern.endswith("new") else ["a.x.new", "a.x.old"]
    found = await stored(js, 3 * len(wanted), sharding.filters(pattern))
    assert [sharding.original(subject) for subject in found] == wanted * 3
    assert [generation for generation, _ in map(sharding.place, found)] == sorted([0, 1, 2] * len(wanted))


async def test_a_shards_filter_finds_its_messages_alone(js: RawJetStream) -> None:
    await create(js, ["a.*.*"], (1,))
    published = [f"a.{number}.{event}" for number in range(300) for event in ("new", "old")]
    await publish(js, published)
    sharded = Sharding(1, SHARDS, (1,))
    wanted = [subject for subject in published if sharded.shard_of(subject) == 5 and subject.endswith("new")]
    found = await stored(js, len(wanted), [sharding.shard_filter("a.*.new", 1, 5)])
    assert [sharding.original(subject) for subject in found] == wanted
