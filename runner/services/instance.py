"""The subject of one instance: askers that balance send it requests for any of its functions there."""

from __future__ import annotations

from collections.abc import Sequence

from runner.core import answered
from runner.core.dispatch import Dispatch
from runner.core.service import instance_subject
from runner.jetstream.wire import Unsubscribe
from runner.runtime.runtime import Runtime
from runner.services.answers import Answers
from runner.services.natschannel import NatsChannel


class InstanceSubject:
    """One subscription for all functions of a process."""

    def __init__(self, runtime: Runtime, channels: Sequence[NatsChannel], answers: Answers) -> None:
        self.draining = False
        """Whether every request is refused, so that other instances take them."""
        self._wire = runtime.connection.wire
        self._subject = instance_subject(runtime.project, runtime.instance, ">")
        self._cut = len(self._subject) - 1
        self._dispatch = Dispatch({each.binding.subject.wildcard: each for each in channels})
        self._answers = answers
        self._unsubscribe: Unsubscribe | None = None

    async def open(self) -> None:
        """Take requests from now on."""
        self._unsubscribe = await self._wire.subscribe(self._subject, self._arrived)

    async def close(self) -> None:
        """Take no more requests: the server tells askers that nobody listens."""
        unsubscribe, self._unsubscribe = self._unsubscribe, None
        if unsubscribe is not None:
            await unsubscribe()

    def _arrived(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        asked = subject[self._cut :]
        channel = self._dispatch.find(asked)
        if channel is None:
            if self._answers.may(reply):
                self._answers.send(reply, b"", answered.REFUSED["unknown"])
        elif self.draining:
            if not reply or self._answers.may(reply):
                channel.refuse(reply, "draining")
        else:
            channel.arrive(asked, reply, header, body)
