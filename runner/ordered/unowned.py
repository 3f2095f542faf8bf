"""Messages that came to a shard and will not start here, because the shard is no longer ours."""

from __future__ import annotations

from runner.jetstream.connection import Connection
from runner.jetstream.reply import stream_sequence


class Unowned:
    """The replies of such messages. The server counts them as delivered until they are sent back, or their ack wait ends."""

    def __init__(self, connection: Connection) -> None:
        self._wire = connection.wire
        self._replies: list[bytes] = []

    def __len__(self) -> int:
        """How many there are."""
        return len(self._replies)

    def add(self, reply: bytes) -> None:
        """Add one message."""
        self._replies.append(reply)

    def clear(self) -> None:
        """The shard is ours again: forget the replies, since the server delivers missing messages anew."""
        self._replies.clear()

    def cut(self, first: int) -> None:
        """Forget the replies from this sequence on: the stream has other messages there."""
        self._replies = [reply for reply in self._replies if stream_sequence(reply) < first]

    def send_back(self) -> None:
        """Send back what was delivered here after another instance had taken the shard over: that instance waits for it."""
        replies, self._replies = self._replies, []
        for reply in replies:
            self._wire.answer(reply, b"-NAK")
