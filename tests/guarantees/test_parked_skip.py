"""`runner parked skip`: a key goes on without the message that it waits behind, and loses nothing else."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from runner.cli.parked.skip import skip as skip_key
from runner.cli.whereabouts import Whereabouts
from runner.config import Settings
from runner.core.redaction import Rules
from runner.errors import JetrunnerError
from runner.jetstream.connection import connect
from runner.jetstream.deadletters import Selection
from runner.jetstream.keymarks import KeyMarks
from tests.guarantees.test_parked import (
    CHARGE,
    done,
    finished,
    free,
    mend,
    order,
    parked,
    running,
    settled,
    touch,
)
from tests.support.eventually import eventually
from tests.support.process import Finished
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]


def starts(shop: Shop, number: int) -> int:
    return [note["id"] for note in shop.notes("start")].count(number)


async def skip(shop: Shop, key: str = "anna", *more: str) -> Finished:
    return await asyncio.to_thread(shop.project.runner, "parked", "skip", key, *more)


async def nothing_left(shop: Shop) -> None:
    await free(shop)
    await settled(shop)

    async def empty() -> bool:
        return not await shop.js.count("PARKED") and not await shop.js.count("DEADLETTERS")

    await eventually(empty)


async def test_a_skipped_head_never_runs_again_and_what_waits_runs_before_newer_ones(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "fail-2")
    await order(shop, "anna", 1, 2, 3, 4)
    await order(shop, "ben", 11)
    await parked(shop, [3, 4])
    (key,) = shop.project.json("parked", "list")
    assert (key["key"], key["state"], key["parked"], key["head"]["message_id"]) == (
        "anna",
        "parked",
        2,
        "ORDERS:2",
    )
    assert (key["head"]["dead_letter"]["reason"], key["head"]["dead_letter"]["message"]) == (
        "exhausted",
        "no bank",
    )
    lines = shop.project.runner("parked", "list").stdout.splitlines()
    assert "ORDERS:2" in lines[1]
    assert "no bank" in lines[1]
    touch(shop, "hold-3")
    told = await skip(shop)
    assert (told.code, told.stdout) == (0, "charge: key anna goes on without ORDERS:2: 2 parked\n"), (
        told.stderr
    )
    await eventually(lambda: starts(shop, 3) == 1)
    await order(shop, "anna", 5, 6)
    mend(shop, "hold-3")
    await finished(shop, [1, 3, 4, 5, 6])
    await finished(shop, [11], "ben")
    await nothing_left(shop)
    assert starts(shop, 2) == 2  # its two attempts, before it was given up
    again = await skip(shop)
    assert (again.code, "no messages of key 'anna' are parked" in again.stderr) == (1, True)


async def test_a_head_is_skipped_while_no_instance_runs(shop: Shop) -> None:
    await shop.open(CHARGE)
    first = await running(shop)
    touch(shop, "reject-1")
    await order(shop, "anna", 1, 2, 3)
    await parked(shop, [2, 3])
    first.terminate()
    await first.ended()
    told = shop.project.json("parked", "skip", "anna")
    assert (told["function"], told["key"], told["message_id"], told["parked"]) == (
        "charge",
        "anna",
        "ORDERS:1",
        2,
    )
    assert told["dead_letter"]["subject"] == "orders.anna.created"
    assert await shop.js.count("DEADLETTERS") == 0
    await order(shop, "anna", 4)
    await running(shop)
    await finished(shop, [2, 3, 4])
    await nothing_left(shop)
    assert starts(shop, 1) == 1


async def test_a_key_that_was_told_to_come_back_is_skipped_as_long_as_no_instance_has_it(shop: Shop) -> None:
    await shop.open(CHARGE)
    first = await running(shop)
    touch(shop, "reject-1")
    await order(shop, "anna", 1, 2)
    await parked(shop, [2])
    first.terminate()
    await first.ended()
    assert shop.project.runner("parked", "retry", "anna").code == 0
    assert (await skip(shop)).code == 0
    await running(shop)
    await finished(shop, [2])
    await nothing_left(shop)
    assert starts(shop, 1) == 1


async def test_a_head_that_may_be_at_work_is_not_skipped(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "reject-1")
    await order(shop, "anna", 1, 2)
    await parked(shop, [2])
    mend(shop, "reject-1")
    touch(shop, "hold-1")
    assert shop.project.runner("parked", "retry", "anna").code == 0
    await eventually(lambda: starts(shop, 1) == 2)
    told = await skip(shop)
    assert (told.code, "is on its way back, and its head may be at work" in told.stderr) == (1, True)
    mend(shop, "hold-1")
    await finished(shop, [1, 2])
    await nothing_left(shop)


async def test_of_many_who_skip_at_once_one_skips_one_message(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "reject-1", "reject-2", "hold-3")
    await order(shop, "anna", 1, 2, 3)
    await parked(shop, [2, 3])
    told = await asyncio.gather(*(skip(shop) for _ in range(4)))
    # The key is parked again behind 2: who had seen it behind 1 has skipped nothing.
    skipped = [each.stdout for each in told if each.code == 0]
    assert skipped.count("charge: key anna goes on without ORDERS:1: 2 parked\n") == 1
    assert len(skipped) == len(set(skipped))
    if len(skipped) == 1:
        await parked(shop, [3])
        assert (await skip(shop)).stdout == "charge: key anna goes on without ORDERS:2: 1 parked\n"
    mend(shop, "hold-3")
    await finished(shop, [3])
    await nothing_left(shop)


async def test_a_head_whose_dead_letter_is_gone_is_skipped_all_the_same(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "reject-1")
    await order(shop, "anna", 1, 2)
    await parked(shop, [2])
    await shop.js.api("STREAM.PURGE.DEADLETTERS")
    assert "its dead letter is gone" in shop.project.runner("parked", "list").stdout
    told = await skip(shop)
    assert (
        told.stdout
        == "charge: key anna goes on without ORDERS:1, whose dead letter was gone already: 1 parked\n"
    )
    await finished(shop, [2])
    await nothing_left(shop)


async def test_a_head_is_not_dropped_among_other_dead_letters(shop: Shop) -> None:
    await shop.open(CHARGE)
    await running(shop)
    touch(shop, "reject-1")
    await order(shop, "anna", 1, 2)
    await parked(shop, [2])
    await shop.js.publish(
        "deadletters.shop.charge", {}, {"Jetrunner-Dead-Project": "shop", "Jetrunner-Dead-Function": "charge"}
    )
    for selection in (["--all"], ["--function", "charge"], ["1", "2"]):
        done = shop.project.runner("deadletter", "drop", *selection, "--yes")
        assert done.code == 1
        assert "dead letter 1 is kept: key anna of charge is parked behind it" in done.stderr
        assert "runner parked skip anna" in done.stderr
        assert [letter.sequence for letter in await shop.dead()] == [1]
    assert shop.project.runner("parked", "skip", "anna").code == 0
    await finished(shop, [2])
    await free(shop)


async def test_who_skips_too_late_has_removed_no_dead_letter(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at the dead letters and its write, the key is told to go on without that message by another command."""
    await shop.open(CHARGE)
    first = await running(shop)
    touch(shop, "reject-1")
    await order(shop, "anna", 1, 2)
    await parked(shop, [2])
    first.terminate()
    await first.ended()
    (letter,) = await shop.dead()
    again = {name: text for name, text in letter.headers.items() if name != "Nats-Msg-Id"}
    await shop.js.publish(letter.subject, letter.json(), again)
    assert len(await shop.dead()) == 2
    write = KeyMarks.skip

    async def too_late(self: KeyMarks, function: str, key: str, *facts: Any) -> Any:
        assert await write(self, function, key, *facts) is not None
        return await write(self, function, key, *facts)

    monkeypatch.setattr(KeyMarks, "skip", too_late)
    async with connect(Settings(nats_url=shop.url), patience=10) as connection:
        where = Whereabouts(connection, shop.project.root, "shop")
        selection = Selection(project="shop")
        with pytest.raises(JetrunnerError, match="does not wait behind ORDERS:1 any more"):
            await skip_key(connection, Rules.of(()), where, selection, "anna")
    assert len(await shop.dead()) == 2


async def test_nothing_but_the_skipped_is_lost_while_instances_are_killed(shop: Shop) -> None:
    """Three instances, two keys; whenever a key is parked its head is skipped, and an instance is killed."""
    await shop.open(CHARGE)
    instances = [await running(shop) for _ in range(3)]
    luck = random.Random(5)
    bad, numbers = {2, 5, 9}, range(1, 13)
    touch(shop, *(f"reject-{number}" for number in bad), *(f"reject-{100 + number}" for number in bad))
    for number in numbers:
        await order(shop, "anna", number)
        await order(shop, "ben", 100 + number)
    skips: list[str] = []
    while len(skips) < 2 * len(bad):
        for key in ("anna", "ben"):
            told = await skip(shop, key)
            if told.code == 0:
                skips.append(told.stdout.split(":")[1] + told.stdout.split("without ")[1].split(": ")[0])
                process = instances.pop(luck.randrange(3))
                process.kill()
                instances.append(await running(shop))
                await order(shop, key, len(skips) + (20 if key == "anna" else 120))
    for key, start in (("anna", 0), ("ben", 100)):

        async def whole(key: str = key, start: int = start) -> bool:
            good = [start + number for number in numbers if number not in bad]
            first = list(dict.fromkeys(done(shop, key)))
            assert first == sorted(first)
            return first[: len(good)] == good and len(first) == len(good) + sum(key in each for each in skips)

        await eventually(whole)
    assert len(skips) == len(set(skips)) == 2 * len(bad)
    await nothing_left(shop)
