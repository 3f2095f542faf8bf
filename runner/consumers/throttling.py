"""Functions that take fewer messages here, since they fail far more often than in the other instances: see `core/throttle.py`.

The others are asked for their figures only while a function here fails often, so in a healthy cluster nobody asks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from random import random
from typing import Any

from runner.consumers.function import Function
from runner.core.throttle import TRIAL, Figures, Throttle, is_suspicious, typical
from runner.runtime import snapshots
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.functions")

ASK_SECONDS = 5.0
"""Where others fail as much, they are asked again after so long, and then after twice as long each time."""
LONGEST_SECONDS = 60.0


class Throttled:
    """One function, and how it stands."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.throttle = Throttle()
        self.begun = (0, 0)
        """Attempts, and those that had failed, when the trial began."""
        self.ask_at = 0.0
        self.pause = ASK_SECONDS

    @property
    def own(self) -> Figures:
        """What it has done here."""
        return Figures(*self.function.stats.recent())

    def wants(self, now: float) -> bool:
        """Whether the figures of the others are to be known now."""
        if self.throttle.state == "full":
            return now >= self.ask_at and is_suspicious(self.own)
        return self.throttle.state == "trial" and self.done >= TRIAL

    @property
    def done(self) -> int:
        """Attempts of this trial that have ended."""
        return self.function.stats.attempts - self.begun[0]

    def begin_trial(self) -> None:
        """The next messages count."""
        self.begun = self.function.stats.attempts, self.function.stats.failed


class Throttling:
    """Looks at the functions of one process."""

    def __init__(self, runtime: Runtime, functions: Sequence[Function]) -> None:
        self._runtime = runtime
        self._each = [Throttled(each) for each in functions if each.binding.schedule is None]

    async def look(self, now: float) -> None:
        """Called once a second."""
        for each in self._each:
            if each.throttle.try_again(now):
                each.begin_trial()
        if any(each.wants(now) for each in self._each):
            told = await snapshots.collect(self._runtime.connection, self._runtime.project)
            for each in self._each:
                if each.wants(now):
                    self._judge(each, self._others(each.function, told), now)
        for each in self._each:
            if each.throttle.state == "paused":
                each.function.take(0)  # each time: its durable, and so what asks, may be another one
            elif each.throttle.state == "trial":
                each.function.take(max(0, TRIAL - each.done))

    def _others(self, function: Function, told: Sequence[dict[str, Any]]) -> list[Figures]:
        name, me = function.binding.function, self._runtime.instance
        parts = [
            each["functions"][name] for each in told if each["instance"] != me and name in each["functions"]
        ]
        return [
            Figures(part["recent"][0], part["recent"][1], part.get("throttled", False))
            for part in parts
            if "recent" in part and part["stream"] == function.stream
        ]

    def _judge(self, each: Throttled, others: Sequence[Figures], now: float) -> None:
        function, throttle, own = each.function, each.throttle, each.own
        name = function.binding.function
        if throttle.state == "full":
            if throttle.compare(own, others, now, random()):
                elsewhere = typical(others) or 0.0
                function.throttled = (
                    f"instance {self._runtime.instance} takes fewer messages: {own.share:.0%} of its attempts failed, "
                    f"{elsewhere:.0%} elsewhere"
                )
                log.warning("%s: %s", name, function.throttled)
                each.pause = ASK_SECONDS
            else:
                each.ask_at, each.pause = now + each.pause, min(2 * each.pause, LONGEST_SECONDS)
            return
        failed = function.stats.failed - each.begun[1]
        follows = throttle.tried(failed, others, now, random())
        if follows == "trial":
            each.begin_trial()
        elif follows == "full":
            function.stats.begin_recent(now)
            function.throttled = ""
            function.take(None)
            log.info("%s: this instance takes all messages again", name)
        else:
            log.info("%s: %d of %d messages of a trial have failed", name, failed, each.done)
