"""The ends of split events: for each, a message is scheduled in `JETRUNNER`, and once more if that stream has lost it.

Rule 1: an event that waits for parts has such a schedule, until it has fired or all parts are there.
Rule 2: missing schedules are looked for when the function begins, when `JETRUNNER` has become another stream, and each hour: somebody
        may have purged it. The time of such an event begins again. Nothing waits for that look.
Rule 3: a schedule too many is harmless: an event that was joined is not joined again.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from runner.bindings import Binding
from runner.core import identity
from runner.core.history import StreamState
from runner.core.news import News
from runner.errors import JetrunnerError
from runner.jetstream import openevents
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.gathered import Gathered, SplitEvent
from runner.jetstream.ownstreams import AGAIN
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.gather")

LOOK_SECONDS = 3600.0
RETRY_SECONDS = 60.0
"""Until the next look where one has failed, and until an end that was lost once more is scheduled once more."""


class Expiries:
    """The ends of one function's events."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        assert binding.joins is not None
        self._connection = runtime.connection
        self._project = runtime.project
        self._function = binding.function
        self._again = identity.again_subject(runtime.project, binding.function)
        self._expires = binding.joins.expires
        self._store = Gathered(runtime.connection)
        self._history = runtime.histories.of(AGAIN)
        self._history.looked.append(self._looked)
        self._stream = ("", 0)
        """When the stream of the schedules was made, and how often it had become another at the last check."""
        self._look_at = 0.0
        self._looks = False
        self._news = News()
        self._tasks = runtime.tasks

    async def schedule(self, event: SplitEvent, beginning: str) -> bool:
        """Schedule the end of an event's time, which begins now; False if this was done before for the same `beginning`."""
        over = datetime.fromtimestamp(self._connection.clock.now() + self._expires, UTC)
        return await self._store.schedule(event, self._again, over, beginning)

    def keep(self) -> None:
        """Look for ends that are missing, if it is time for that; called every few seconds."""
        now = time.monotonic()
        if now >= self._look_at and not self._looks:
            self._looks, self._look_at = True, now + LOOK_SECONDS
            self._tasks.start_soon(self._look)

    async def _look(self) -> None:
        try:
            batches = await openevents.unscheduled(self._connection, self._project, self._function)
            await map_concurrently(self._mend, batches)
            self._news.over()
        except JetrunnerError as error:
            self._look_at = time.monotonic() + RETRY_SECONDS
            self._news.warn(log, "%s: cannot look for lost ends of its events: %s", self._function, error)
        finally:
            self._looks = False

    async def _mend(self, batch: str) -> None:
        event = SplitEvent(self._project, self._function, batch)
        record, revision = await self._store.read(event)
        if not revision or record.done or record.given_up or await self._store.is_there(record.runner):
            return
        minute = int(self._connection.clock.now() // RETRY_SECONDS)
        if await self.schedule(event, f"again{revision}.{minute}"):
            log.warning("%s: the end of event %s was lost, and is scheduled again", self._function, batch)

    def _looked(self, now: StreamState) -> None:
        stream = now.created, self._history.era
        if stream != self._stream:
            self._stream, self._look_at = stream, 0.0
