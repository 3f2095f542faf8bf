"""Which messages of a schedule run."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from runner.core.cron import parse
from runner.core.firing import (
    DUE,
    KEPT,
    LATE_SECONDS,
    NEXT,
    NONE,
    WRITTEN,
    FiringRecord,
    Pass,
    StartFiring,
    Tick,
    decide,
    decode,
    due,
    encode,
    firing_of,
    is_repeated,
    passing,
)


def started(record: FiringRecord, tick: Tick) -> FiringRecord:
    decision = decide(record, tick)
    assert isinstance(decision, StartFiring)
    return decision.record or record


def test_a_firing_runs_and_is_remembered_by_its_message() -> None:
    record = started(NONE, Tick("03:00", 7))
    assert record.started == {"03:00": 7}
    assert decode(encode(record)) == record


def test_the_same_firing_under_another_sequence_does_not_run() -> None:
    record = started(NONE, Tick("03:00", 7))
    assert isinstance(decide(record, Tick("03:00", 9)), Pass)
    assert decide(record, Tick("03:00", 7)) == StartFiring(), "it comes again: its process has died in it"


def test_what_came_due_while_another_ran_is_passed_over_but_not_what_was_started() -> None:
    record = passing(started(NONE, Tick("03:00", 7)), 9, 0)
    assert isinstance(decide(record, Tick("03:01", 8)), Pass)
    assert isinstance(decide(record, Tick("03:02", 9)), Pass)
    assert isinstance(decide(record, Tick("03:03", 10)), StartFiring)
    assert decide(record, Tick("03:00", 7)) == StartFiring()


def test_a_late_one_does_not_run_where_there_is_a_later_one() -> None:
    late = LATE_SECONDS + 1
    assert isinstance(decide(NONE, Tick("03:00", 7, 0, late, later=True)), Pass)
    assert isinstance(decide(NONE, Tick("03:00", 7, 0, late, later=False)), StartFiring)
    assert isinstance(decide(NONE, Tick("03:00", 7, 0, LATE_SECONDS - 1, later=True)), StartFiring)
    record = started(NONE, Tick("03:00", 7))
    assert decide(record, Tick("03:00", 7, 0, late, later=True)) == StartFiring(), (
        "what was started is run to its end"
    )


def test_one_that_waits_for_its_retry_runs_though_it_is_not_remembered_any_more() -> None:
    record = started(NONE, Tick("03:00", 7))
    for number in range(KEPT):
        record = started(record, Tick(f"04:{number}", 8 + number))
    assert "03:00" not in record.started
    assert decide(record, Tick("03:00", 7, 0, LATE_SECONDS + 1, later=True, again=True)) == StartFiring()
    assert decide(passing(record, 400, 0), Tick("03:00", 7, again=True)) == StartFiring()
    assert decode(encode(record)) == record


def test_in_a_stream_that_was_made_again_nothing_is_taken_for_what_was_passed_over() -> None:
    record = passing(NONE, 5_000, 1_000)
    assert isinstance(decide(record, Tick("03:00", 1, 1_001)), StartFiring), "it counts from 1 again"
    assert isinstance(decide(record, Tick("03:00", 5_001, 900)), StartFiring), "the clock was set back"
    assert isinstance(decide(record, Tick("03:00", 5_000, 1_000)), Pass)
    assert passing(record, 1, 1_001) == FiringRecord(passed=5_000, passed_ns=1_001)


def test_one_that_was_given_back_and_not_started_is_passed_over_like_any_other() -> None:
    assert isinstance(decide(passing(NONE, 9, 0), Tick("03:00", 7, again=True)), Pass)


def test_one_that_a_user_fires_always_runs() -> None:
    assert decide(passing(NONE, 99, 0), Tick("", 7, 0, LATE_SECONDS + 1, later=True)) == StartFiring()


def test_the_second_passage_of_an_hour_does_not_run() -> None:
    assert isinstance(decide(NONE, Tick("02:30", 7, repeated=True)), Pass)


@given(st.lists(st.integers(0, 400), max_size=400))
def test_each_firing_runs_under_one_sequence_among_the_last(firings: list[int]) -> None:
    record, runs = NONE, dict[int, set[int]]()
    recent: list[int] = []
    for sequence, firing in enumerate(firings, 1):
        decision = decide(record, Tick(str(firing), sequence))
        if isinstance(decision, StartFiring):
            record = decision.record or record
            runs.setdefault(firing, set()).add(sequence)
            assert firing not in recent[-KEPT:]
            recent.append(firing)
    assert len(record.started) <= KEPT


def test_a_firing_is_told_by_the_time_of_the_next_one_and_by_its_schedule() -> None:
    headers = {NEXT: "2026-11-29T03:30:00Z", WRITTEN: "*/30 * * * *"}
    assert firing_of(headers) != firing_of({**headers, WRITTEN: "*/15 * * * *"})
    assert firing_of({WRITTEN: "*/15 * * * *"}) == "", "it was fired by a user"
    assert firing_of({NEXT: "bad\nline"}) == ""


def test_a_firing_was_due_one_interval_before_the_next_one() -> None:
    schedule = parse("0 3 * * *", "Europe/Berlin")
    found = due(schedule, {NEXT: "2026-11-30T03:00:00+01:00"}, 0)
    assert found.isoformat() == "2026-11-29T03:00:00+01:00"
    assert due(parse("@every 90s"), {NEXT: "2026-11-29T02:06:56.5Z"}, 0) == datetime(
        2026, 11, 29, 2, 5, 26, 500_000, UTC
    )


def test_without_the_servers_word_a_firing_was_due_at_the_last_time_before_it_was_stored() -> None:
    stored = int(datetime(2026, 11, 29, 3, 0, 0, 914, UTC).timestamp() * 1e9)
    assert due(parse("0 3 * * *"), {}, stored) == datetime(2026, 11, 29, 3, tzinfo=UTC)
    told = {DUE: "2026-11-29T05:00:00+02:00"}
    assert due(parse("0 4 * * *"), told, stored) == datetime(2026, 11, 29, 3, tzinfo=UTC)


def test_headers_that_are_no_times_are_not_gone_by() -> None:
    stored = int(datetime(2026, 11, 29, 3, 0, 0, 914, UTC).timestamp() * 1e9)
    for text in (
        "tomorrow",
        "2026-11-29T03:00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "",
    ):
        assert due(parse("0 3 * * *"), {NEXT: text, DUE: text}, stored) == datetime(
            2026, 11, 29, 3, tzinfo=UTC
        )


def test_only_the_second_passage_of_a_named_hour_is_repeated() -> None:
    second, first = {NEXT: "2027-11-01T02:30:00+01:00"}, {NEXT: "2027-10-31T02:30:00+01:00"}
    assert is_repeated(parse("30 2 * * *", "Europe/Berlin"), second, 0)
    assert not is_repeated(parse("30 2 * * *", "Europe/Berlin"), first, 0)
    assert not is_repeated(parse("30 * * * *", "Europe/Berlin"), second, 0)
    assert not is_repeated(parse("@every 90s"), second, 0)


def test_a_firing_of_another_release_was_due_by_that_ones_schedule() -> None:
    headers = {NEXT: "2026-11-30T03:00:00+01:00", WRITTEN: "0 3 * * * Europe/Berlin"}
    found = due(parse("0 5 * * *"), headers, 0)
    assert found.isoformat() == "2026-11-29T03:00:00+01:00"
    twice = {NEXT: "2027-11-01T02:30:00+01:00", WRITTEN: "30 2 * * * Europe/Berlin"}
    assert is_repeated(parse("0 5 * * *"), twice, 0)


def test_what_a_firing_says_of_its_schedule_is_not_gone_by_where_it_is_none() -> None:
    own = due(parse("0 3 * * *"), {NEXT: "2026-11-30T03:00:00Z"}, 0)
    for text in (
        "",
        "x",
        "@every",
        "@every -1s",
        "* * * * * *",
        "@daily ../etc",
        "0 3 30 2 *",
        "\x00" * 5_000,
        "1 " * 5_000,
    ):
        assert due(parse("0 3 * * *"), {NEXT: "2026-11-30T03:00:00Z", WRITTEN: text}, 0) == own
