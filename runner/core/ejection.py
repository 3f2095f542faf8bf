"""Ejection: which instance gets no requests for a while, for how long, and what brings it back.

Rule 1: an instance is ejected after 5 failures in a row; if fewer than 80% of its last requests (about 50, at least 20) succeeded;
        or if its answers (at least 50) take more than three times as long as the others', and at least 5 ms longer.
Rule 2: at most half of the instances are ejected by rule 1: none of one, one of two or three, two of four or five. If more of
        them are bad, the fault is mostly elsewhere, and the few that are left would break down under the load of all.
        An instance that does not answer at all is ejected however many others are, because every request to it is lost time.
Rule 3: it is ejected for 1 s, and for twice as long each time it was ejected before, up to 60 s; a quarter more or less by chance,
        so that not all callers come back together. Each minute without an ejection cancels one earlier ejection.
Rule 4: after that, one request at a time tries it. Three good ones bring it back. A failed one ejects it again; so does a slow one
        if the instance was ejected for being slow.
Rule 5: a request that was sent before the ejection says nothing about the time after it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Reason: TypeAlias = Literal["consecutive failures", "success rate", "latency", "trial failed", "no answer"]

IN_A_ROW = 5
LEAST_SUCCESS = 0.8
LEAST_REQUESTS = 20

LEAST_ANSWERS = 50
TIMES_SLOWER = 3.0
SECONDS_SLOWER = 0.005

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0
FORGIVEN_SECONDS = 60.0

GOOD_TRIALS = 3
TRIAL_TIMES_SLOWER = 5.0
TRIAL_SECONDS_SLOWER = 0.010
"""A single answer may be slow by chance, so a trial may take longer than the running figure."""


def most_ejected(instances: int) -> int:
    """How many of `instances` may be ejected at a time because of their answers."""
    return instances // 2


def failing(in_a_row: int, requests: int, success: float) -> Reason | None:
    """Tell why an instance that has just failed is to be ejected; None: it stays."""
    if in_a_row >= IN_A_ROW:
        return "consecutive failures"
    return "success rate" if requests >= LEAST_REQUESTS and success < LEAST_SUCCESS else None


def is_slow(latency: float, typical: float) -> bool:
    """Tell whether an instance's running latency is far above `typical`, that of the others (0.0: not known)."""
    return typical > 0.0 and latency > TIMES_SLOWER * typical and latency > typical + SECONDS_SLOWER


def trial_is_slow(seconds: float, typical: float) -> bool:
    """Tell whether a trial's answer took so much longer than the others' that the instance is still slow."""
    return typical > 0.0 and seconds > TRIAL_TIMES_SLOWER * typical + TRIAL_SECONDS_SLOWER


def seconds_out(ejections: int, noise: float) -> float:
    """Seconds that an instance is ejected after `ejections` earlier ejections; `noise` is from 0 to 1."""
    return min(FIRST_SECONDS * 2.0 ** min(ejections, 16), LONGEST_SECONDS) * (0.75 + noise / 2)


def remembered(ejections: int, seconds: float) -> int:
    """How many earlier ejections still count after `seconds` without another."""
    return ejections and max(0, ejections - int(max(0.0, seconds) / FORGIVEN_SECONDS))
