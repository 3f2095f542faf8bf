"""A function's subject changes, back and forth, one version beside the other: nothing is passed over, nothing runs twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from textwrap import dedent

import pytest
from nats.aio.msg import Msg

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.shop import IMPORTS, Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

NARROW, WIDE = "orders.a.{k}", "orders.{t}.{k}"


def version(subject: str, name: str, **options: object) -> str:
    told = "".join(f", {option}={value!r}" for option, value in options.items())
    return f"""
        @consume("{subject}"{told})
        async def work(order: Order, ctx: Context) -> None:
            note("run", id=order.id, subject=ctx.subject, version="{name}", attempt=ctx.attempt)
    """


NARROWER, WIDER = version(NARROW, "narrow"), version(WIDE, "wide")


class Work:
    """Orders under `orders.a.…` and `orders.b.…`, and who has run them."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.published: list[tuple[str, int]] = []
        self.processes: list[RunnerProcess] = []

    async def publish(self, *kinds: str) -> None:
        """One order of each kind."""
        for kind in kinds:
            number = len(self.published)
            subject = f"orders.{kind}.{number}"
            await self.shop.js.publish(subject, {"id": number})
            self.published.append((kind, number))

    async def started(self, source: str, *, reads: str = "") -> RunnerProcess:
        """Start this version; it is ready when this returns, and waits for more unless another goes before it."""
        self.shop.write(source)
        process = self.shop.run()
        self.processes.append(process)
        await process.seen("ready: work")
        if reads:
            await process.seen(reads)
        return process

    async def run_once(self, source: str, *kinds: str) -> None:
        """Start a version, publish, wait for it to have run what is its own, and stop it."""
        process = await self.started(source)
        await self.publish(*kinds)
        await self.done(*("a" if source is NARROWER else "b" if "other" in source else "ab"))
        process.terminate()
        await process.ended()

    async def done(self, *kinds: str) -> None:
        """Every order of these kinds has run."""
        expected = {number for kind, number in self.published if kind in kinds}

        async def all_run() -> bool:
            missing = expected - self.runs().keys()
            said = "\n\n".join(process.output for process in self.processes)
            assert not missing, f"not run: {sorted(missing)[:20]} of {self.published}\n{said}"
            return True

        await eventually(all_run)

    async def settled(self) -> None:
        """Nothing of the stream is in work."""
        for durable in await self.shop.js.consumers("ORDERS"):
            await eventually(partial(self.shop.js.settled, "ORDERS", durable))

    def runs(self) -> Counter[int]:
        return Counter(each["id"] for each in self.shop.notes("run"))

    def once(self) -> None:
        """Nothing has run twice, and nothing by a version that does not read it."""
        twice = {number: count for number, count in self.runs().items() if count > 1}
        assert not twice, twice
        foreign = [
            each
            for each in self.shop.notes("run")
            if each["version"] == "narrow" and not each["subject"].startswith("orders.a.")
        ]
        assert not foreign, foreign


@pytest.fixture
async def work(shop: Shop) -> Work:
    await shop.open(NARROWER)
    return Work(shop)


async def test_what_comes_while_an_older_version_reads_less_is_run_by_the_next(work: Work) -> None:
    for _ in range(2):
        await work.run_once(NARROWER, "a", "b", "a", "b")
        await work.publish("a", "b")
        await work.run_once(WIDER, "a", "b", "b")
        await work.publish("b", "a")
    await work.run_once(WIDER)
    await work.done("a", "b")
    work.once()


async def test_the_same_where_the_wider_version_was_first(work: Work) -> None:
    for _ in range(2):
        await work.run_once(WIDER, "a", "b", "a", "b")
        await work.publish("a", "b")
        await work.run_once(NARROWER, "a", "b", "b")
    await work.run_once(WIDER, "b")
    await work.done("a", "b")
    work.once()


async def test_an_older_process_that_starts_again_beside_a_newer_takes_nothing_from_it(work: Work) -> None:
    old = await work.started(NARROWER)
    await work.publish("a", "b")
    await work.done("a")
    await work.started(WIDER)
    await work.publish(*"abababab")
    await work.done("a", "b")
    await work.settled()  # what it has run and not acknowledged would run again
    old.kill()
    await work.publish(*"abab")
    await work.started(NARROWER)
    await work.publish(*"abababab")
    await work.done("a", "b")
    work.once()


async def test_a_version_that_reads_less_waits_until_the_last_that_reads_more_has_gone(work: Work) -> None:
    wide = await work.started(WIDER)
    await work.publish(*"abab")
    await work.done("a", "b")
    narrow = await work.started(NARROWER, reads="work takes no messages now: instance .* reads orders.*")
    await work.publish(*"abab")
    await work.done("a", "b")
    assert {each["version"] for each in work.shop.notes("run")} == {"wide"}
    wide.terminate()
    await wide.ended()
    await work.publish(*"abab")
    await work.done("a")
    narrow.terminate()
    await narrow.ended()
    await work.started(WIDER)
    await work.done("a", "b")
    work.once()


async def test_other_code_by_the_same_name_is_refused_while_the_first_runs(work: Work) -> None:
    await work.started(NARROWER)
    other = work.shop.make_project(name="shop", nats=work.shop.url)
    other.function("shop", IMPORTS + dedent(version("orders.b.{k}", "other")))
    second = other.start("run")
    assert await second.ended() == 2
    assert "reads orders.a.* by the same name, and this one would read orders.b.*" in second.output
    await work.publish(*"abab")
    await work.done("a")
    work.once()
    assert not other.journal("run")


async def test_a_subject_that_was_left_goes_on_where_it_was_left(work: Work) -> None:
    one, two = version("orders.a.{k}", "one"), version("orders.b.{k}", "two")
    for _ in range(2):
        await work.run_once(one)
        await work.publish("a", "b")
        for source, kind in ((one, "a"), (two, "b")):
            process = await work.started(source)
            await work.publish(kind)
            await work.done(kind)
            process.terminate()
            await process.ended()
    work.once()


async def test_a_work_queue_hands_every_message_to_the_version_that_reads_it(shop: Shop) -> None:
    await shop.js.create("ORDERS", ["orders.>"], retention="workqueue")
    work = Work(shop)
    for _ in range(2):
        await work.run_once(NARROWER, *"abab")
        await work.run_once(WIDER, *"abab")
    work.once()


async def test_all_is_read_by_one_durable_again_once_the_wider_version_starts_alone(work: Work) -> None:
    await work.run_once(NARROWER, *"abab")
    await work.run_once(WIDER, *"abab")
    assert len(await work.shop.js.consumers("ORDERS")) == 2
    await work.run_once(WIDER, *"abab")
    assert await work.shop.js.consumers("ORDERS") == ["shop-work"]
    assert (await work.shop.js.consumer("ORDERS", "shop-work"))["config"]["filter_subject"] == "orders.*.*"
    work.once()


async def test_three_versions_one_after_the_other_run_nothing_twice(work: Work) -> None:
    other = version("orders.b.{k}", "other")
    await work.run_once(NARROWER, *"abab")
    await work.run_once(WIDER, *"abab")
    for _ in range(2):
        process = await work.started(other)
        await work.publish(*"abab")
        await work.done("b")
        process.terminate()
        await process.ended()
        await work.run_once(WIDER, *"abab")
    work.once()


@pytest.mark.parametrize("first", [NARROWER, version("orders.b.{k}", "other")], ids=["less", "another"])
@pytest.mark.parametrize("after", [0.0, 0.6, 1.2])
async def test_an_instance_that_starts_while_another_decides_is_not_passed_by(
    work: Work, first: str, after: float
) -> None:
    second = WIDER if first == NARROWER else NARROWER
    await work.run_once(second, *"abab")
    asked = asyncio.Event()

    async def hear(_: Msg) -> None:
        asked.set()

    await work.shop.js.client.subscribe("jetrunner.shop.status", cb=hear)
    work.shop.write(first)
    work.processes.append(work.shop.run())
    try:
        await eventually(asked.is_set)
    except AssertionError:
        pytest.fail(f"it has asked nobody:\n{work.processes[-1].output}")
    await asyncio.sleep(after)  # it listens for answers for 1.5 s
    work.shop.write(second)
    late = work.shop.run()
    work.processes.append(late)
    for _ in range(40):
        await work.publish("a", "b")
        await asyncio.sleep(0.1)  # messages keep coming while they settle
    if first == NARROWER:
        await work.done("a", "b")
    else:  # two functions by one name: the first one's turn was over before the second asked
        await work.done("b")
        assert await late.ended() == 2
    work.once()


async def test_a_durable_that_goes_between_two_steps_of_a_change_runs_nothing_again(work: Work) -> None:
    await work.run_once(NARROWER, *"abab")
    await work.run_once(version("orders.b.{k}", "other"), "b")
    await work.shop.js.api("CONSUMER.DELETE.ORDERS.shop-work")
    await work.run_once(NARROWER, "a")
    work.once()


async def test_a_filter_that_somebody_edits_is_noticed_and_nothing_is_passed_over(work: Work) -> None:
    process = await work.started(WIDER)
    await work.publish(*"ab")
    await work.done("a", "b")
    config = (await work.shop.js.consumer("ORDERS", "shop-work"))["config"]
    await work.shop.js.api(
        "CONSUMER.CREATE.ORDERS.shop-work",
        {"stream_name": "ORDERS", "config": {**config, "filter_subject": "orders.a.*"}, "action": "update"},
    )
    await work.publish(*"abab")
    await work.done("a", "b")
    assert process.running


async def test_functions_that_keep_order_are_not_started_beside_one_that_reads_another_subject(
    work: Work,
) -> None:
    ordered = {"ordered_by": "k"}
    await work.started(version(WIDE, "wide", **ordered))
    await work.publish(*"ab")
    await work.done("a", "b")
    work.shop.write(version(NARROW, "narrow", **ordered))
    second = work.shop.run()
    assert await second.ended() == 2
    assert "reads orders.*.* by the same name" in second.output
    await work.publish(*"abab")
    await work.done("a", "b")
