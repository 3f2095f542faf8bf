"""Whether a stream is the one that is remembered: a table of what is known, what stands there now, and what follows."""

from __future__ import annotations

import pytest

from runner.core.history import (
    NOTHING,
    Another,
    Back,
    HistoryAnswers,
    HistoryQuestion,
    Identity,
    Same,
    StreamState,
    Verdict,
    begin,
    judge,
    void,
)

KNOWN = Identity("then", 35, 350)


def now(last: int, last_ns: int, *, created: str = "then", clock: int = 9_000) -> StreamState:
    return StreamState(created, 1, last, last_ns, clock)


@pytest.mark.parametrize(
    ("known", "state", "answers", "said"),
    [
        # Nothing was known, or it is the very last message still.
        (NOTHING, now(35, 350), HistoryAnswers(), Same()),
        (NOTHING, now(0, 0), HistoryAnswers(), Same()),
        (KNOWN, now(35, 350), HistoryAnswers(), Same()),
        # More has come, and the known one stands.
        (KNOWN, now(40, 400), HistoryAnswers(), "stands"),
        (KNOWN, now(40, 400), HistoryAnswers(350), Same()),
        # The known one was removed: the next was stored later, as it should be, or there is none.
        (KNOWN, now(40, 400), HistoryAnswers(0), "later"),
        (KNOWN, now(40, 400), HistoryAnswers(0, 38), Same()),
        (KNOWN, now(40, 400), HistoryAnswers(0, 0), Same()),
        # It was removed, and one of a lower number was stored after it.
        (KNOWN, now(40, 400), HistoryAnswers(0, 6), Back(6)),
        # The numbers went back, and have not come up again.
        (KNOWN, now(5, 50), HistoryAnswers(), "later"),
        (KNOWN, now(5, 50), HistoryAnswers(later=0), Back(6)),
        (KNOWN, now(20, 900), HistoryAnswers(later=6), Back(6)),
        (KNOWN, now(0, 0), HistoryAnswers(later=0), Back(1)),
        # They came up again.
        (KNOWN, now(35, 900), HistoryAnswers(), "stands"),
        (KNOWN, now(40, 900), HistoryAnswers(900), "later"),
        (KNOWN, now(40, 900), HistoryAnswers(880, 6), Back(6)),
        # Another message stands there, and times do not tell since when: nothing counts.
        (KNOWN, now(40, 300), HistoryAnswers(250, 0), Back(1)),
        (KNOWN, now(40, 900), HistoryAnswers(250, 39), Back(1)),
        # The server's clock is behind what is known.
        (KNOWN, now(20, 200, clock=210), HistoryAnswers(later=0), Back(1)),
        (KNOWN, now(40, 300, clock=310), HistoryAnswers(250, 0), Back(1)),
        # Numbers alone are known.
        (Identity("then", 35), now(35, 900), HistoryAnswers(), Same()),
        (Identity("then", 35), now(34, 900), HistoryAnswers(), Back(35)),
        # Made again.
        (KNOWN, now(35, 350, created="now"), HistoryAnswers(), Another()),
        (NOTHING, now(35, 350, created="now"), HistoryAnswers(), Same()),
    ],
)
def test_what_is_said_of_a_stream(
    known: Identity, state: StreamState, answers: HistoryAnswers, said: Verdict | HistoryQuestion
) -> None:
    assert judge(known, state, answers) == said


@pytest.mark.parametrize(
    ("floor", "verdict", "wanted", "last", "first"),
    [
        (20, Same(), 0, 50, 21),
        (20, Same(), 30, 50, 30),
        (50, Same(), 0, 50, 51),
        (60, Same(), 0, 50, 51),
        (35, Back(6), 0, 50, 6),
        (3, Back(6), 0, 50, 4),
        (3, Back(6), 30, 50, 6),
        (35, Another(), 30, 50, 0),
    ],
)
def test_where_a_durable_begins(floor: int, verdict: Verdict, wanted: int, last: int, first: int) -> None:
    assert begin(floor, verdict, wanted, last) == first


def test_which_numbers_are_void() -> None:
    assert [void(each) for each in (Same(), Back(6), Another())] == [None, 6, 1]
