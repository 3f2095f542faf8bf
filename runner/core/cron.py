"""Schedules of `@cron`: when they fire, and how they are written for nats-server.

A schedule is five fields (minute, hour, day of month, month, day of week), a name such as `@hourly`, or `@every 90s`. Where
nats-server 2.15 (six fields) refuses a field, or reads it otherwise than cron, it is translated to plain numbers or refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Struct

from runner.core import quantity
from runner.core.near import guess

NAMED = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
EVERY = "@every"
SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 365 * 86_400.0
LONGEST = 1_024
"""Characters of a schedule and its zone."""
DAYS_AHEAD = 8 * 366 + 1
"""Two 29 Februaries are at most eight years apart."""
_DAY = 86_400
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(r"(?P<first>\*|\?|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")


class Field(Struct, frozen=True):
    """One of the five fields, and the numbers that it may hold."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()
    """Names of the numbers from `low` on."""

    @property
    def whole(self) -> tuple[int, ...]:
        """Every number that the field may hold."""
        return tuple(range(self.low, self.high + 1))


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day of month", 1, 31)
MONTH = Field("month", 1, 12, _MONTHS)
WEEKDAY = Field("day of week", 0, 6, _WEEKDAYS)
FIELDS = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)


class Schedule(Struct, frozen=True):
    """When a function fires."""

    text: str
    """As the user wrote it."""
    timezone: str
    """An IANA name."""
    every: float = 0.0
    """Seconds between two firings; 0: the fields say when it fires."""
    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    days: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    weekdays: tuple[int, ...] = ()
    """0 is Sunday."""

    @property
    def zone(self) -> tzinfo:
        """The time zone that the fields are read in. UTC needs no database of zones."""
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    @property
    def line(self) -> str:
        """The schedule as the user wrote it, and its time zone; `read` reads it back."""
        return self.text if self.timezone == "UTC" else f"{self.text} {self.timezone}"

    @property
    def wire(self) -> str:
        """The value of `Nats-Schedule`: six fields, the seconds first, in numbers alone."""
        if self.every:
            return f"{EVERY} {self.every:.9f}".rstrip("0").rstrip(".") + "s"
        given = (self.minutes, self.hours, self.days, self.months, self.weekdays)
        return " ".join(["0", *map(_written, FIELDS, given)])

    @property
    def lifetime(self) -> int:
        """Seconds that the stream keeps a firing which no instance has taken: two intervals, and a day at least."""
        if self.every:
            return max(_DAY, int(2 * self.every) + 1)
        if self.months != MONTH.whole:
            return 2 * 366 * _DAY
        if self.days != DAY.whole:
            return 2 * 31 * _DAY
        return 2 * 7 * _DAY if self.weekdays != WEEKDAY.whole else 2 * _DAY

    @property
    def fixed_hours(self) -> bool:
        """Whether it fires once in an hour that the clock goes through twice: true for every schedule that names hours."""
        return not self.every and self.hours != HOUR.whole

    def after(self, moment: datetime) -> datetime | None:
        """The first firing after a moment; None when none comes, or when only the server knows it (`@every`)."""
        if self.every:
            return None
        day, moment = moment.astimezone(self.zone).date(), moment.astimezone(UTC)
        for number in range(DAYS_AHEAD):
            for time in self._times(day + timedelta(days=number)):
                if time.astimezone(UTC) > moment:
                    return time
        return None

    def before(self, moment: datetime, *, twice: bool = False) -> datetime | None:
        """The last firing before a moment; with `twice`, firings count that the server repeats in a repeated hour."""
        if self.every:
            return moment - timedelta(seconds=self.every)
        day, moment = moment.astimezone(self.zone).date(), moment.astimezone(UTC)
        for number in range(DAYS_AHEAD):
            for time in reversed([*self._times(day - timedelta(days=number), twice=twice)]):
                if time.astimezone(UTC) < moment:
                    return time
        return None

    def left_out(self, since: date, days: int) -> Iterator[datetime]:
        """Local times, without a zone, within `days` days that the clock skips: by cron's rule the schedule does not fire then.

        On a day whose midnight is skipped, nats-server does not fire at all if the schedule names days (seen on 2.15).
        """
        named = self.days != DAY.whole or self.weekdays != WEEKDAY.whole or self.months != MONTH.whole
        for number in range(0 if self.every else days):
            day = since + timedelta(days=number)
            if not self._on(day) or not _changes(self.zone, day):
                continue
            midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001  a local time of the zone
            for time in self._naive(day):
                if _skipped(time, self.zone) or (named and _skipped(midnight, self.zone)):
                    yield time

    def _on(self, day: date) -> bool:
        """Whether it fires on a day. As in cron, if day of month and day of week are both restricted, one of them is enough."""
        if day.month not in self.months:
            return False
        on_day, on_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.days != DAY.whole and self.weekdays != WEEKDAY.whole:
            return on_day or on_weekday
        return on_day and on_weekday

    def _naive(self, day: date) -> Iterator[datetime]:
        for hour in self.hours:
            for minute in self.minutes:
                yield datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001  the caller adds the zone

    def _times(self, day: date, *, twice: bool = False) -> Iterator[datetime]:
        """The firings of one local day, in order."""
        if self.every or not self._on(day):
            return
        zone = self.zone
        if not _changes(zone, day):
            yield from (time.replace(tzinfo=zone) for time in self._naive(day))
            return
        folds = (0, 1) if twice or not self.fixed_hours else (0,)
        found = {
            time.replace(tzinfo=zone, fold=fold).astimezone(UTC)
            for time in self._naive(day)
            for fold in folds
            if not _skipped(time, zone)
        }
        yield from (time.astimezone(zone) for time in sorted(found))


def read(line: str) -> Schedule:
    """Read a schedule as its `line` writes it. ValueError for any other text."""
    words = line[:LONGEST].split()
    count = 1 if words and words[0].startswith("@") else len(FIELDS)
    if len(words) != count + 1 or words[0].lower() == EVERY:
        return parse(line[:LONGEST])
    return parse(" ".join(words[:count]), words[count])


def parse(text: str, timezone: str = "UTC") -> Schedule:
    """Read a schedule. ValueError for any other text, for a schedule that never fires, and for an unknown zone."""
    given = " ".join(text.split())
    if "/" not in timezone and timezone != "UTC":  # the server accepts Local and CET, but as its own
        raise ValueError(
            f'timezone={timezone!r} is not a name of the IANA database: write "Europe/Berlin", or "UTC"'
        )
    try:
        Schedule(given, timezone).zone.utcoffset(None)
    except (ValueError, OSError, LookupError):
        why = f"there is no time zone {timezone!r} in the IANA database of this machine"
        raise ValueError(why + guess(timezone, available_timezones())) from None
    name, _, rest = given.partition(" ")
    if name.lower() == EVERY:
        if timezone != "UTC":
            raise ValueError(f"{text!r} counts from its start: it has no time zone")
        return Schedule(given, timezone, every=_interval(rest))
    if given.startswith("@"):
        if not (words := NAMED.get(given.lower(), "").split()):
            known = f"{', '.join(NAMED)}, or @every with a duration"
            raise ValueError(f"{text!r} is none of {known}{guess(given, NAMED)}")
    elif len(words := given.split(" ")) != len(FIELDS):
        wanted = "minute, hour, day of month, month, day of week, as in '0 3 * * *'"
        raise ValueError(f"{text!r} has {len(words)} fields: write {wanted}{guess(f'@{given}', NAMED)}")
    minutes, hours, days, months, weekdays = map(_numbers, FIELDS, words)
    if days != DAY.whole and weekdays != WEEKDAY.whole and "*" in (words[2][0], words[4][0]):
        raise ValueError(
            f"{text!r}: where a field of days begins with *, cron fires when both match, and nats-server when either does: "
            "write the range (1-31/2) for either, or leave one of them *"
        )
    found = Schedule(given, timezone, 0.0, minutes, hours, days, months, weekdays)
    if found.after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise ValueError(f"{text!r} never fires: there is no such day")
    return found


def _interval(text: str) -> float:
    try:
        seconds = quantity.seconds(text)
    except ValueError:
        seconds = 0.0
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise ValueError(
            f"@every {text}: write a duration of 1 s to a year, as in '@every 90s' or '@every 1h30m'"
        )
    return seconds


def _numbers(field: Field, text: str) -> tuple[int, ...]:
    """The numbers that one field stands for, sorted."""
    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(
                f"{field.name} {text!r}: {item!r} is not a number, range (1-5) or step (*/10); L, W and # are not known to nats-server"
            )
        first, last, step = match["first"], match["last"], match["step"]
        if first in ("*", "?"):
            if last is not None:
                raise ValueError(f"{field.name} {text!r}: {item!r} is not a range")
            span = field.whole
        else:
            low = _number(field, first, text)
            high = _number(field, last, text) if last else field.high if step else low
            if last and field is WEEKDAY and last == "7" and low != 0:
                span = (*range(low, 7), 0)
            elif high >= low:
                span = tuple(range(low, high + 1))
            else:  # such as 22-2, which nats-server refuses
                span = (*range(low, field.high + 1), *range(field.low, high + 1))
        if step is not None and not int(step):
            raise ValueError(f"{field.name} {text!r}: a step is 1 or more")
        found.update(span[:: int(step or 1)])
    return tuple(sorted(found))


def _number(field: Field, text: str, whole: str) -> int:
    if text.isdecimal():
        number = int(text)
        if field is WEEKDAY and number == 7:
            return 0
        if field.low <= number <= field.high:
            return number
    elif text.lower() in field.words:
        return field.low + field.words.index(text.lower())
    raise ValueError(f"{field.name} {whole!r}: {text!r} is none of {field.low} to {field.high}")


def _written(field: Field, numbers: tuple[int, ...]) -> str:
    """Write numbers as nats-server reads them: `*` for all, ranges for consecutive ones."""
    if numbers == field.whole:
        return "*"
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _changes(zone: tzinfo, day: date) -> bool:
    """Whether the clock is changed on a day."""
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    following = day + timedelta(days=1)
    end = datetime(following.year, following.month, following.day, tzinfo=zone)
    return start.utcoffset() != end.utcoffset() or start.replace(fold=1).utcoffset() != start.utcoffset()


def _skipped(naive: datetime, zone: tzinfo) -> bool:
    """Whether the clock never shows this time."""
    return naive.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != naive
