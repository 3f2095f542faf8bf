"""What became of a message, by what is known of it: a table of facts and states."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from runner.core import kepterror, story
from runner.core.failurerecord import FailureRecord
from runner.core.holding import Held
from runner.core.kepterror import KeptError
from runner.core.storyfacts import DurableFacts, GatheringFacts, Hand, LetterFacts, StoryFacts

NOW = 1_900_000_000.0
STORED = 1_899_999_000 * 10**9
DURABLE = DurableFacts(name="shop-charge", floor=4, delivered=10, pending=5, unsettled=3)
SETTLED = structs.replace(DURABLE, floor=7)
AHEAD = structs.replace(DURABLE, delivered=5)
IDLE = structs.replace(DURABLE, unsettled=0)
FACTS = StoryFacts(sequence=7, stored_ns=STORED, now=NOW, last=20, answered=1, durable=DURABLE)
KEPT = KeptError(STORED, 2, 5, NOW - 1, NOW + 60, "ValueError", "no")
LETTER = LetterFacts(3, "2030-01-01T00:00:00Z", "rejected", "Reject", "no", 1)
PART = GatheringFacts(1, 3)


def hand(step: Any, **more: Any) -> Hand:
    return Hand("host-1-a", Held("charge", step, **more))


@pytest.mark.parametrize(
    ("known", "state", "why"),
    [
        ({"hands": (hand("running", since=NOW - 3),)}, "running", ""),
        ({"hands": (hand("running", late=True),)}, "running", "past its timeout"),
        ({"hands": (hand("running", apart=True),)}, "running", "in a process of its own"),
        ({"hands": (hand("queued"),)}, "queued", "waits for a slot"),
        ({"hands": (hand("settling"),), "letter": LETTER}, "settling", "on their way"),
        ({"hands": (hand("resting", due=NOW + 9),)}, "retrying", "waits there"),
        ({"hands": (hand("behind", ahead=2, head=5),)}, "waiting", "behind 2 messages of its key, the first of them 5"),
        ({"hands": (hand("held"),)}, "waiting", "being taken over"),
        ({"hands": (hand("queued"), hand("running"))}, "running", ""),
        ({"letter": LETTER, "durable": SETTLED}, "dead", "dead letter 3, rejected"),
        ({"letter": LETTER, "sent_back_whole": False}, "dead", "or sent back and not looked at"),
        ({"letter": LETTER, "parks": True}, "dead", "its key waits behind it"),
        ({"letter": LETTER, "parks": True, "returning": True}, "dead", "its key comes back"),
        ({"letter": LETTER, "hands": (hand("running", sent_back=True),)}, "running", "on its way back"),
        ({"parked": 9, "behind": "ORDERS:5", "durable": SETTLED}, "parked", "behind ORDERS:5, in PARKED at 9"),
        ({"parked": 9, "returning": True}, "returning", "PARKED at 9"),
        ({"passed": True, "durable": None}, "done", "past it"),
        ({"gathering": PART, "durable": SETTLED}, "gathering", "1 of 3 parts"),
        ({"gathering": structs.replace(PART, runner="A:1")}, "gathering", "A:1 runs the function"),
        ({"gathering": structs.replace(PART, done=True)}, "done", "1 of 3 parts"),
        ({"gathering": structs.replace(PART, given_up=True, runner="A:1")}, "dead", "A:1"),
        ({"gathering": GatheringFacts(0, -1), "durable": AHEAD}, "waiting", "behind"),
        ({"kept": KEPT}, "retrying", ""),
        ({"kept": KEPT, "durable": SETTLED}, "done", ""),
        ({"kept": KEPT, "durable": IDLE}, "done", ""),
        ({"kept": structs.replace(KEPT, due=NOW - 5)}, "unknown", "was due 5s ago"),
        ({"failed": FailureRecord(2, NOW + 5), "ordered": True}, "retrying", "in the shard"),
        ({"failed": FailureRecord(2, NOW + 5), "ordered": True, "owner": "a", "silent": True}, "retrying", "does not answer"),
        ({"failed": FailureRecord(2, NOW + 5), "durable": SETTLED, "ordered": True}, "done", ""),
        ({"durable": structs.replace(SETTLED, new=True, created_ns=STORED + 1)}, "skipped", 'deliver="new"'),
        ({"durable": structs.replace(SETTLED, new=True, created_ns=STORED - 1)}, "done", ""),
        ({"durable": structs.replace(SETTLED, start=8)}, "skipped", "begins at 8"),
        ({"durable": structs.replace(SETTLED, start=8), "outputs": 1}, "done", ""),
        ({"durable": SETTLED}, "done", ""),
        ({"durable": IDLE}, "done", ""),
        ({"durable": SETTLED, "letters_whole": False}, "done", "or a dead letter"),
        ({"durable": SETTLED, "sent_back_whole": False}, "done", "or sent back and not looked at"),
        ({"durable": SETTLED, "there": False}, "gone", "does not tell"),
        ({"durable": SETTLED, "there": False, "keeps": False}, "done", ""),
        ({"durable": SETTLED, "there": False, "outputs": 1}, "done", ""),
        ({"durable": AHEAD, "there": False}, "gone", "before it was delivered"),
        ({"there": False}, "gone", "was delivered"),
        ({"durable": None, "there": False}, "gone", "nothing tells"),
        ({"durable": AHEAD}, "waiting", "behind 0 to 1 messages"),
        ({"durable": AHEAD, "answered": 0}, "waiting", "no instance that runs the function has answered"),
        ({"durable": structs.replace(AHEAD, paused="2031")}, "waiting", "paused until 2031"),
        ({"durable": AHEAD, "sent_back": "JETRUNNER:7"}, "waiting", "sent back as JETRUNNER:7"),
        ({"durable": None}, "waiting", "no instance has run it"),
        ({"durable": None, "ordered": True}, "waiting", "no instance has owned it"),
        ({"durable": None, "ordered": True, "drained": True}, "done", "drained"),
        ({"durable": None, "ordered": True, "ahead": True}, "waiting", "once those before are drained"),
        ({"outputs": 2}, "done", "2 outputs of it are stored"),
        ({}, "unknown", "settled, or lost with its process less than 10 s ago"),
        ({"answered": 0}, "unknown", "frozen, blocked or cut off"),
        ({"owner": "host-1-a", "silent": True, "ordered": True}, "unknown", "does not answer"),
    ],
)  # fmt: skip
def test_the_state_follows_from_what_is_known(known: dict[str, Any], state: str, why: str) -> None:
    told = story.tell(structs.replace(FACTS, **known))
    assert (told.state, why in told.why) == (state, True), told


@pytest.mark.parametrize(
    ("sequence", "last", "pending", "least", "most"),
    [
        (11, 11, 1, 0, 0),  # the only one
        (15, 15, 5, 4, 4),  # the last one of the stream: all others go before it
        (11, 15, 5, 0, 0),  # the next one
        (14, 20, 5, 0, 3),  # others may stand before or behind it
        (20, 20, 2, 1, 1),  # most between are no messages of the function's
        (12, 30, 0, 0, 0),  # the server has counted before it came
    ],
)
def test_how_many_go_before_a_message_is_told_as_far_as_the_figures_tell(
    sequence: int, last: int, pending: int, least: int, most: int
) -> None:
    durable = structs.replace(DURABLE, delivered=10, pending=pending)
    assert story.ahead(durable, sequence, last) == (least, most)


@pytest.mark.parametrize("text", ["x", "é", "\x00", "\ud800", "😀"])
def test_a_record_of_an_error_is_no_larger_than_4_kib_and_can_be_read(text: str) -> None:
    kept = structs.replace(
        KEPT, error=text * 9_000, message=text * 9_000, where=text * 9_000, traceback=text * 9_000 + "end"
    )
    written = kepterror.encode(kept)
    assert len(written) <= kepterror.LARGEST
    read = kepterror.read(written)
    assert (read.attempt, read.due, read.traceback.endswith("end")) == (2, NOW + 60, True)
