"""Schedules: what fires when, and what the server is told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.cron import parse, read

SUNDAY = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        ("*/15 * * * *", "0 0,15,30,45 * * * *"),
        ("5 0-3 1,15 jan-MAR mon", "0 5 0-3 1,15 1-3 1"),
        ("0 22-2 * * *", "0 0 0-2,22-23 * * *"),
        ("0 0 * * 7", "0 0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 0 * * 0,5-6"),
        ("0 0 ? * 1", "0 0 0 * * 1"),
        ("3/20 * * * *", "0 3,23,43 * * * *"),
        ("0-59 * * * *", "0 * * * * *"),
        ("@hourly", "0 0 * * * *"),
        ("@weekly", "0 0 0 * * 0"),
        ("@every 90s", "@every 90s"),
        ("@every 1h30m", "@every 5400s"),
        ("@every 1.5s", "@every 1.5s"),
        ("@every 12d", "@every 1036800s"),
        ("  0  3 * *  * ", "0 0 3 * * *"),
    ],
)
def test_the_server_is_told_numbers(text: str, wire: str) -> None:
    assert parse(text).wire == wire


@pytest.mark.parametrize(
    ("text", "zone", "why"),
    [
        ("7 * * *", "UTC", "has 4 fields"),
        ("0 0 3 * * *", "UTC", "has 6 fields"),
        ("", "UTC", "fields"),
        ("61 * * * *", "UTC", "is none of 0 to 59"),
        ("0 24 * * *", "UTC", "is none of 0 to 23"),
        ("0 0 0 * *", "UTC", "is none of 1 to 31"),
        ("0 0 * * 8", "UTC", "is none of 0 to 6"),
        ("0 0 L * *", "UTC", "is none of 1 to 31"),
        ("0 0 15W * *", "UTC", "is none of 1 to 31"),
        ("0 0 * * 5#2", "UTC", "is not a number"),
        ("*/0 * * * *", "UTC", "a step is 1 or more"),
        ("*-5 * * * *", "UTC", "is not a range"),
        ("1,,2 * * * *", "UTC", "is not a number"),
        ("0 0 30 2 *", "UTC", "never fires"),
        ("0 0 */2 * 1", "UTC", "for either"),
        ("0 0 13 * */2", "UTC", "for either"),
        ("@reboot", "UTC", "is none of"),
        ("@every", "UTC", "a duration"),
        ("@every 0.5s", "UTC", "a duration of 1 s"),
        ("@every fortnight", "UTC", "a duration"),
        ("@every 1h", "Europe/Berlin", "no time zone"),
        ("0 3 * * *", "Local", "IANA"),
        ("0 3 * * *", "CET", "IANA"),
        ("0 3 * * *", "Europe/Nowhere", "there is no time zone"),
        ("0 3 * * *", "../../etc/passwd", "there is no time zone"),
        ("TZ=UTC 0 3 * * *", "UTC", "fields"),
    ],
)
def test_what_the_server_would_read_otherwise_is_refused(text: str, zone: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text, zone)


@pytest.mark.parametrize(
    ("text", "zone", "following"),
    [
        ("0 3 * * *", "UTC", "2026-11-29T03:00:00+00:00"),
        ("0 2 * * *", "UTC", "2026-11-30T02:00:00+00:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-11-30T03:00:00+01:00"),
        ("*/20 * * * *", "UTC", "2026-11-29T02:20:00+00:00"),
        ("0 0 1 * 5", "UTC", "2026-12-01T00:00:00+00:00"),
        ("0 0 29 2 *", "UTC", "2028-02-29T00:00:00+00:00"),
        ("0 12 * * 0", "UTC", "2026-11-29T12:00:00+00:00"),
    ],
)
def test_the_next_firing_is_told_in_the_zone_of_the_schedule(text: str, zone: str, following: str) -> None:
    found = parse(text, zone).after(SUNDAY)
    assert found is not None
    assert found.isoformat() == following


def test_a_schedule_that_counts_from_its_start_tells_the_firing_before_and_not_the_next() -> None:
    schedule = parse("@every 90s")
    assert schedule.after(SUNDAY) is None
    assert schedule.before(SUNDAY) == SUNDAY - timedelta(seconds=90)


def test_a_time_that_the_clock_skips_does_not_fire() -> None:
    schedule = parse("30 2 * * *", "Europe/Berlin")
    found = schedule.after(datetime(2027, 3, 27, 12, tzinfo=UTC))
    assert found is not None
    assert found.isoformat() == "2027-03-29T02:30:00+02:00"
    assert [*schedule.left_out(date(2027, 3, 1), 60)] == [datetime(2027, 3, 28, 2, 30)]  # noqa: DTZ001


def test_a_day_whose_midnight_is_skipped_does_not_fire_where_days_are_named() -> None:
    assert [*parse("0 9 * * 0", "America/Santiago").left_out(date(2027, 9, 1), 30)] == [
        datetime(2027, 9, 5, 9)  # noqa: DTZ001
    ]
    assert not [*parse("0 9 * * *", "America/Santiago").left_out(date(2027, 9, 1), 30)]


def test_a_time_that_the_clock_shows_twice_fires_once_where_hours_are_named() -> None:
    schedule = parse("30 2 * * *", "Europe/Berlin")
    first = schedule.after(datetime(2027, 10, 30, 12, tzinfo=UTC))
    assert first is not None
    assert first.isoformat() == "2027-10-31T02:30:00+02:00"
    following = schedule.after(first)
    assert following is not None
    assert following.isoformat() == "2027-11-01T02:30:00+01:00"
    again = schedule.before(following, twice=True)
    assert again is not None
    assert (again.isoformat(), again.fold) == ("2027-10-31T02:30:00+01:00", 1)


def test_every_half_hour_fires_in_both_passages_of_an_hour() -> None:
    schedule, moment = parse("*/30 * * * *", "Europe/Berlin"), datetime(2027, 10, 30, 23, 59, tzinfo=UTC)
    times = []
    for _ in range(6):
        following = schedule.after(moment)
        assert following is not None
        moment = following
        times.append(moment.isoformat()[11:])
    assert times == ["02:00:00+02:00", "02:30:00+02:00", "02:00:00+01:00", "02:30:00+01:00", "03:00:00+01:00", "03:30:00+01:00"]  # fmt: skip


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"]
)
FIELDS = st.tuples(
    st.sampled_from(["0", "*/7", "59", "5,35"]),
    st.sampled_from(["*", "2", "22-2", "0"]),
    st.sampled_from(["*", "1", "13,31"]),
    st.sampled_from(["*", "3-10"]),
    st.sampled_from(["*"]),
)


@given(FIELDS, ZONES, st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001
def test_the_firing_before_the_next_one_is_not_after_now(
    fields: tuple[str, ...], zone: str, moment: datetime
) -> None:
    schedule, now = parse(" ".join(fields), zone), moment.replace(tzinfo=UTC)
    following = schedule.after(now)
    assert following is not None
    assert following.astimezone(UTC) > now
    before = schedule.before(following)
    assert before is not None
    assert before.astimezone(UTC) <= now
    assert schedule.after(before) == following
    assert following.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == following.replace(
        tzinfo=None
    )
    assert following.second == 0
    assert following.minute in schedule.minutes


def test_a_line_is_read_as_what_it_was_written_of() -> None:
    for text, zone in (
        ("0 3 * * *", "Europe/Berlin"),
        ("*/5 * * * mon-fri/2", "UTC"),
        ("@daily", "Africa/Cairo"),
        ("@hourly", "UTC"),
        ("@every 1h30m", "UTC"),
    ):
        assert read(parse(text, zone).line) == parse(text, zone)
