"""The requests of one function that wait for a slot: which may, and what those are told that may not."""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.bindings import Binding
from runner.core import answered
from runner.core.admission import WaitingRoom
from runner.core.service import NotStarted
from runner.runtime.line import Line
from runner.runtime.runtime import Runtime
from runner.services.answers import Answers
from runner.services.counts import Counts
from runner.services.request import Request, read

clock = time.monotonic


class Waiting(Line[Request]):
    """The line before the slots; as many stand in it as the room has places, and as there is memory for."""

    def __init__(
        self,
        runtime: Runtime,
        open_slot: Callable[[], None],
        binding: Binding,
        answers: Answers,
        counts: Counts,
    ) -> None:
        super().__init__(runtime.tasks, open_slot, binding.concurrency)
        self.room = WaitingRoom(binding.concurrency, clock())
        self.bytes = 0
        """Of the bodies that wait."""
        self._most_bytes = runtime.settings.max_bytes_in_flight
        self._function = binding.function
        self._answers = answers
        self._may = answers.may
        self._counts = counts

    def arrive(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        """Take a request, from within the read that brought it."""
        if reply and not self._may(reply):
            self._answers.refuse(self._function, reply)
            return
        now = clock()
        if len(self.deliveries) >= self.room.places:
            self.room.look(now, self._counts.handled)
            if len(self.deliveries) >= self.room.places:
                self.refuse(reply, "overloaded")
                return
        size = self.bytes + len(body)
        if size > self._most_bytes and self.deliveries:
            self.refuse(reply, "overloaded")
            return
        self.bytes = size
        self.join(read(subject, reply, header, body, now))

    def refuse(self, reply: bytes, why: NotStarted) -> None:
        """Answer that the handler has not begun."""
        self._counts.not_started[why] += 1
        if reply:
            self._answers.send(reply, b"", answered.REFUSED[why])

    def turn_away(self, request: Request, why: NotStarted) -> None:
        """The same of one that has been waiting."""
        self.refuse(request.reply, why)

    def sweep(self, now: float) -> None:
        """Called about ten times a second: refuse those whose deadline has passed, though no slot is free."""
        self.room.look(now, self._counts.handled)
        waiting = self.deliveries
        late = [each for each in waiting if now >= each.expires]
        if late:
            kept = [each for each in waiting if now < each.expires]
            waiting.clear()
            waiting.extend(kept)
            for each in late:
                self.bytes -= len(each.body)
                self.turn_away(each, "expired")

    def give_up(self) -> None:
        """Refuse all that wait still: others may take them."""
        while self.deliveries:
            self.turn_away(self.deliveries.popleft(), "draining")
        self.bytes = 0
