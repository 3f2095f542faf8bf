"""A message whose handler runs in a child process: `executor="process"`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from runner.core.settlement import Crashed, Failed
from runner.pipeline.confined import Ended
from runner.pipeline.message import Incoming
from runner.runtime.cell import Cell, Died, DiedBefore, Missing
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.children")

AGAIN_SECONDS = 1.0
"""Delay before a message comes again for which no child could be started."""
DEATHS = 2
"""The most attempts of a message that may die with their process. One death proves little: a machine short of memory kills, too."""


class ChildDied(Exception):  # noqa: N818  # an error is named by what happened
    """The process of a handler has died before the handler ended."""


class InChild:
    """Runs the messages of one function in children."""

    def __init__(
        self,
        runtime: Runtime,
        function: str,
        attempts: int,
        run: Callable[[Incoming, object, bool, Cell], Awaitable[Ended | None]],
    ) -> None:
        """`run` has a cell run a message. Raises `Died` and `Missing`."""
        self._runtime = runtime
        self._function = function
        self._deaths = min(DEATHS, attempts)
        self._run = run

    async def run(self, incoming: Incoming, task: object, admitted: bool) -> Ended | None:
        """The handler's outcome and outputs; None if the message is another owner's by now, or comes again."""
        delivery = incoming.delivery
        try:
            async with self._runtime.children.one() as child:
                return await self._run(incoming, task, admitted, child)
        except (Missing, DiedBefore) as error:  # the handler has not started
            log.warning("%s: %s waits: %s", self._function, incoming.id, error)
            if not delivery.settled:
                delivery.source.later(delivery, AGAIN_SECONDS)
            return None
        except Died as death:
            log.warning("%s: the process of %s has died: %s", self._function, incoming.id, death)
            if delivery.settled or not await self._runtime.cells.is_witness():
                return None  # this process ends, too: then the message is not to blame
            if delivery.attempt < self._deaths:
                return Failed(ChildDied(f"its process has died: {death}")), []
            return Crashed(delivery.attempt), []
