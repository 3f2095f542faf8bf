"""Times as every command prints them, and as `--since` reads them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(unix: float) -> str:
    """A Unix time as text, as `2031-05-04T12:00:00.250Z`."""
    return _text(datetime.fromtimestamp(unix, UTC), "milliseconds")


def seconds(told: str) -> str:
    """The text of a time without its fraction of a second, as tables show it; a text that is no time stays as it is."""
    try:
        return _text(datetime.fromisoformat(told), "seconds")
    except (ValueError, OverflowError):
        return told


def _text(moment: datetime, precision: str) -> str:
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
