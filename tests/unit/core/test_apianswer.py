"""What the server says of a consumer, as all releases of it should say it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from runner.core import apianswer


def info(floor: tuple[int, int], delivered: tuple[int, int], start: int = 0) -> dict[str, Any]:
    return {
        "ack_floor": {"consumer_seq": floor[0], "stream_seq": floor[1]},
        "delivered": {"consumer_seq": delivered[0], "stream_seq": delivered[1]},
        "config": {"opt_start_seq": start} if start else {},
    }


@pytest.mark.parametrize(
    ("told", "floor"),
    [
        (info((0, 0), (0, 29), 30), 29),
        (info((0, 0), (3, 32), 30), 29),
        (info((0, 0), (0, 29)), 29),
        (info((0, 0), (3, 32)), 0),
        (info((0, 0), (0, 0)), 0),
        (info((2, 31), (3, 32), 30), 31),
        (info((0, 29), (3, 32), 30), 29),
    ],
    ids=[
        "nothing delivered", "delivered, not acked", "only what is new", "it has begun with the first", "an empty stream",
        "acked", "a newer server",
    ],
)  # fmt: skip
@pytest.mark.parametrize("listed", [False, True])
def test_a_consumer_without_acks_ends_where_it_begins_on_every_server(
    told: dict[str, Any], floor: int, listed: bool
) -> None:
    told = deepcopy(told)
    answer = {"consumers": [told]} if listed else told
    apianswer.raise_floors("CONSUMER.LIST.S" if listed else "CONSUMER.INFO.S.C", answer)
    assert told["ack_floor"]["stream_seq"] == floor


def test_an_answer_that_lists_no_consumers_stays_as_it_is() -> None:
    answer = {"consumers": None, "total": 0}
    apianswer.raise_floors("CONSUMER.LIST.S", answer)
    assert answer == {"consumers": None, "total": 0}


def test_an_answer_on_streams_stays_as_it_is() -> None:
    answer = info((0, 0), (0, 29))
    apianswer.raise_floors("STREAM.INFO.S", answer)
    assert answer == info((0, 0), (0, 29))
