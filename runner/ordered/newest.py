"""The newest message that one shard knows of its stream, read from the last delivery's reply when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping

from runner.core.history import NOTHING, Identity
from runner.jetstream.delivery import Delivery
from runner.jetstream.reply import identity, stored_at
from runner.ordered.pull import ShardPull
from runner.runtime.history import History


class Newest:
    """Distinguishes messages of the stream's history from those that get their numbers after it went back."""

    def __init__(self, pull: ShardPull, history: History) -> None:
        self.made = ""
        """When the stream was made."""
        self._pull = pull
        self._history = history
        self._known = NOTHING
        self._reply = b""
        """The reply that `_known` was read from."""

    def __call__(self) -> Identity:
        """The newest message that is known to be the stream's."""
        reply = self._pull.newest_reply
        if reply is not self._reply:
            self._reply = reply
            self._known = identity(reply, self.made) if reply else NOTHING
        return self._known

    def note(self, unsettled: Mapping[int, Delivery]) -> None:
        """The barrier has opened: messages that came behind it are the stream's."""
        sequence = max(unsettled, default=0)
        if sequence > self().sequence:
            self._pull.newest_reply = unsettled[sequence].reply

    def forget(self) -> None:
        """The stream has lost the newest message."""
        self._pull.newest_reply = b""

    def before(self, delivery: Delivery) -> bool:
        """Whether a message was stored after all messages known here: then nothing known here is about it."""
        stored = stored_at(delivery.reply)
        return stored > self().stored_ns and stored > self._history.newest().stored_ns
