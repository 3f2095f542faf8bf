"""Points in time as they are printed: RFC 3339 in UTC, everywhere, and as `--since` reads them."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(unix: float) -> str:
    """`2031-05-04T12:00:00.250Z`."""
    return _text(datetime.fromtimestamp(unix, UTC), "milliseconds")


def seconds(told: str) -> str:
    """The same from the text of a time, without its fraction, as tables show it; what is no time stays as it is."""
    try:
        return _text(datetime.fromisoformat(told), "seconds")
    except (ValueError, OverflowError):
        return told


def _text(moment: datetime, precision: str) -> str:
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
