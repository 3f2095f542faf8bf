"""Whether this machine's clock and the server's agree."""

from __future__ import annotations

from collections.abc import Iterator

from runner.core.doctor.finding import Finding

MAY_SECONDS = 1.0
WILL_SECONDS = 60.0


def of_offset(ahead: float, doubt: float) -> Iterator[Finding]:
    """Check that both clocks agree; `ahead` is how many seconds this machine's is ahead, give or take `doubt`."""
    off = abs(ahead) - doubt
    if off < MAY_SECONDS:
        return
    which = "ahead of" if ahead > 0 else "behind"
    yield Finding(
        "clock",
        "hurts" if off >= WILL_SECONDS else "may hurt",
        f"the clock here is {abs(ahead):,.1f} s {which} the server's",
        "times of logs and traces do not fit together, and credentials that expire are refused too early or too late",
        "let both machines keep time by NTP",
    )
