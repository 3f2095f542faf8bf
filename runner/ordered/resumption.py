"""Keys that are due to come back: each is brought back by the instance that owns its shard."""

from __future__ import annotations

import asyncio
import logging

from runner.errors import JetrunnerError
from runner.ordered.lanes import Lanes
from runner.ordered.parking import REPEAT_SECONDS, RETRY_SECONDS, Parking
from runner.ordered.unpark import Unparking

log = logging.getLogger("jetrunner.parked")


class Resumption:
    """Brings back the keys of one ordered function."""

    def __init__(self, parking: Parking) -> None:
        self._parking = parking
        self._book = parking.book
        self._returning: set[bytes] = set()
        """Keys that are being brought back here."""

    def look(self, lanes: Lanes) -> None:
        """Bring back the due keys of a shard; called a few times a second while the shard is owned."""
        if not self._book.due or lanes.ordering.barrier:
            return
        for key in self._book.due - self._returning:
            ownership = lanes.fences.ownership
            if ownership is not None and self._book.shard_of(key) == lanes.name:
                self._returning.add(key)
                self._parking.runtime.tasks.start_soon(
                    self._bring_back, Unparking(self._parking, lanes, ownership, key)
                )

    async def _bring_back(self, unparking: Unparking) -> None:
        function = self._parking.function
        try:
            await unparking.run()
        except JetrunnerError as error:
            log.warning("%s: key %s cannot be brought back yet: %s", function, unparking.text, error)
            await asyncio.sleep(RETRY_SECONDS)
        except Exception:  # its key waits; nothing else does
            log.exception("%s: key %s cannot be brought back yet", function, unparking.text)
            await asyncio.sleep(REPEAT_SECONDS)
        finally:
            self._returning.discard(unparking.key)
