"""Removes messages that were sent back to one function and are settled: nobody else reads them."""

from __future__ import annotations

import logging

from runner.core import identity
from runner.errors import PermissionDenied, ServerError
from runner.jetstream.messages import purge
from runner.jetstream.ownstreams import AGAIN
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.functions")


class Settled:
    """Removes the settled messages of one function."""

    def __init__(self, runtime: Runtime, function: str) -> None:
        self._runtime = runtime
        self._subject = identity.again_subject(runtime.project, function)
        self._through: int | None = 0
        """Settled messages are removed up to this sequence; None if the credentials do not allow it."""

    async def remove(self, floor: int, moment: tuple[int, int]) -> None:
        """Remove messages up to a floor that was read at that moment.

        If the stream has changed since, the floor may belong to another stream, and nothing is removed.
        """
        if not floor or self._through in {None, floor}:
            return
        try:
            if not await self._runtime.histories.of(AGAIN).still(moment):
                return
            await purge(self._runtime.connection, AGAIN, self._subject, floor)
        except PermissionDenied:
            self._through = None
        except ServerError as error:  # it is tried again next time
            log.debug("%s cannot be deleted from %s: %s", self._subject, AGAIN, error)
        else:
            self._through = floor
