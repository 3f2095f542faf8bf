"""The services of a process: the functions that answer, the instance's own subject, and the control subjects."""

from __future__ import annotations

from collections.abc import Sequence

from runner.bindings import Binding
from runner.core.dispatch import clashes
from runner.errors import UsageError
from runner.runtime.runtime import Runtime
from runner.runtime.stop import together
from runner.services.answers import Answers
from runner.services.control import Control
from runner.services.instance import InstanceSubject
from runner.services.natschannel import NatsChannel
from runner.services.responder import Responder


class Service:
    """All that one process answers; without functions that answer, it does nothing."""

    def __init__(self, runtime: Runtime, bindings: Sequence[Binding], release: str) -> None:
        self._connection = runtime.connection
        answers = self._answers = Answers(runtime.connection, runtime.settings.inboxes)
        self._channels = tuple(NatsChannel(runtime, each, answers) for each in bindings)
        self.responders = tuple(Responder(runtime, each) for each in self._channels)
        self._instance = InstanceSubject(runtime, self._channels, answers)
        self._control = Control(runtime, self.responders, answers, release)

    async def open(self) -> None:
        """Answer from now on. Raises JetrunnerError."""
        if not self.responders:
            return
        await self._control.open()
        await self._instance.open()
        for each in self._channels:
            await each.open()
        await self._connection.heard()  # a request may come right after the announcement
        self._control.announce()
        self._answers.back = self._control.announce  # askers that balance may have given this instance up

    def sweep(self, now: float) -> None:
        """Sweep all responders; called about ten times a second."""
        for each in self.responders:
            each.sweep(now)

    @property
    def unsettled(self) -> int:
        """Requests that were admitted and are not answered."""
        return sum(each.unsettled for each in self.responders)

    # -- the end ----------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Take no more requests; returns once all that were on their way are here. Those that are here run on."""
        if self.responders:
            self._instance.draining, self._answers.back = True, lambda: None
            self._control.announce(gone=True)
            await together(each.close for each in self._channels)

    def give_up(self) -> None:
        """Refuse all requests whose handlers have not begun."""
        for each in self.responders:
            each.waiting.give_up()

    async def close(self) -> None:
        """Give up the instance's own subject, once all requests are answered."""
        await self._instance.close()


def require_apart(bindings: Sequence[Binding]) -> list[UsageError]:
    """An error for each pair of functions that would answer the same requests."""
    answering = {each.function: each for each in bindings if each.answers is not None}
    return [
        UsageError(
            f"{answering[other].place}: it answers requests that {one} answers ({answering[one].file}:{answering[one].line}): "
            "NATS would give each of them to either",
            hint="give them subjects that do not overlap",
        )
        for one, other in clashes({name: each.subject.wildcard for name, each in answering.items()})
    ]
