"""Functions that take fewer messages here, because they fail far more often than in other instances: see `core/throttle.py`.

The other instances are asked for their figures only while a function here fails often, so in a healthy cluster nobody asks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from random import random
from typing import Any

from runner.consumers.functiondurables import FunctionDurables
from runner.core.throttle import TRIAL, Figures, Throttle, is_suspicious, typical
from runner.runtime import snapshots
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.functions")

ASK_SECONDS = 5.0
"""If the others fail as often, they are asked again after so long, then after twice as long each time, up to 60 s."""
LONGEST_SECONDS = 60.0


class Throttled:
    """One function, and its throttle."""

    def __init__(self, durables: FunctionDurables) -> None:
        self.durables = durables
        self.stats = durables.pipeline.stats
        self.throttle = Throttle()
        self.begun = (0, 0)
        """Attempts, and failed attempts, at the beginning of the trial."""
        self.ask_at = 0.0
        self.pause = ASK_SECONDS

    @property
    def own(self) -> Figures:
        """What the function has done here in the last minute."""
        return Figures(*self.stats.recent())

    def wants(self, now: float) -> bool:
        """Whether the figures of the other instances are needed now."""
        if self.throttle.state == "full":
            return now >= self.ask_at and is_suspicious(self.own)
        return self.throttle.state == "trial" and self.done >= TRIAL

    @property
    def done(self) -> int:
        """How many attempts of this trial have ended."""
        return self.stats.attempts - self.begun[0]

    def begin_trial(self) -> None:
        """Begin a trial: attempts count from now on."""
        self.begun = self.stats.attempts, self.stats.failed


class Throttling:
    """Throttles the functions of one process."""

    def __init__(self, runtime: Runtime, functions: Sequence[FunctionDurables]) -> None:
        self._runtime = runtime
        self._each = [Throttled(each) for each in functions if each.binding.schedule is None]

    async def look(self, now: float) -> None:
        """Compare and throttle; called once a second."""
        for each in self._each:
            if each.throttle.try_again(now):
                each.begin_trial()
        if any(each.wants(now) for each in self._each):
            told = await snapshots.collect(self._runtime.connection, self._runtime.project)
            for each in self._each:
                if each.wants(now):
                    self._judge(each, self._others(each.durables, told), now)
        for each in self._each:
            if each.throttle.state == "paused":
                each.durables.take(0)  # each second anew, since its pull may be another one by now
            elif each.throttle.state == "trial":
                each.durables.take(max(0, TRIAL - each.done))

    def _others(self, durables: FunctionDurables, told: Sequence[dict[str, Any]]) -> list[Figures]:
        name, me = durables.binding.function, self._runtime.instance
        parts = [
            each["functions"][name] for each in told if each["instance"] != me and name in each["functions"]
        ]
        return [
            Figures(part["recent"][0], part["recent"][1], part.get("throttled", False))
            for part in parts
            if "recent" in part and part["stream"] == durables.stream
        ]

    def _judge(self, each: Throttled, others: Sequence[Figures], now: float) -> None:
        durables, throttle, own = each.durables, each.throttle, each.own
        name = durables.binding.function
        if throttle.state == "full":
            if throttle.compare(own, others, now, random()):
                elsewhere = typical(others) or 0.0
                durables.throttled = (
                    f"instance {self._runtime.instance} takes fewer messages: {own.share:.0%} of its attempts failed, "
                    f"{elsewhere:.0%} elsewhere"
                )
                log.warning("%s: %s", name, durables.throttled)
                each.pause = ASK_SECONDS
            else:
                each.ask_at, each.pause = now + each.pause, min(2 * each.pause, LONGEST_SECONDS)
            return
        failed = each.stats.failed - each.begun[1]
        follows = throttle.tried(failed, others, now, random())
        if follows == "trial":
            each.begin_trial()
        elif follows == "full":
            each.stats.begin_recent(now)
            durables.throttled = ""
            durables.take(None)
            log.info("%s: this instance takes all messages again", name)
        else:
            log.info("%s: %d of %d messages of a trial have failed", name, failed, each.done)
